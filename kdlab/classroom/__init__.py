"""The course as a class uses it: laid out for nbgrader, graded out of a student's reach, and looked over."""
