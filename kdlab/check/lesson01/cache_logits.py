"""Soft labels cached by sample index."""

import math

import torch

from kdlab.check.core import Exercise, Part, Property, Remark, Wrong, edit
from kdlab.check.observers.teacher import builds_graphs, cached, one_image_at_a_time
from kdlab.check.probing import integer, numbers, shuffled


def cache_logits(teacher, images, index, size, batch_size=64):
    was_training = teacher.training
    teacher.eval()
    with torch.no_grad():
        logits = torch.cat([teacher(batch) for batch in images.split(batch_size)])
    teacher.train(was_training)
    table = torch.full((size, logits.shape[1]), math.nan)
    table[index] = logits
    return table


def probes(generator):
    def case(classes, training, n, spare, *batch_size, side=2):
        teacher = {"classes": classes, "seed": integer(generator, 0, 999), "training": training}
        order = shuffled(generator, n + spare)
        while n > 1 and bool((order[:n].diff() > 0).all()):  # an index that happens to be sorted shows nothing
            order = shuffled(generator, n + spare)
        return teacher, numbers(generator, n, 1, side, side), order[:n], n + spare, *batch_size

    return [
        case(2, False, 1, 1, 4),
        case(2, True, 1, 2, 1),
        case(2, True, 3, 0, 2),
        case(3, False, 3, 2, 2),
        case(2, True, 4, 1, 2),
        case(3, True, 5, 3, 3),
        case(4, False, 6, 2, 6),
        case(2, True, 7, 1, 2),  # more images than batch_size squared: so many batches are too few
        case(3, False, 9, 0, 2),
        case(3, True, 70, 5, side=3),
        case(3, False, 65, 0),
    ]


def show(teacher, images, index, size, *batch_size):
    mode = "training" if teacher["training"] else "evaluation"
    items = {"teacher": f"a small network in {mode} mode", "images": images, "index": index, "size": size}
    return items | ({"batch_size": batch_size[0]} if batch_size else {})


def last_batch_dropped(teacher, images, index, size, batch_size=64):
    full = len(images) // batch_size * batch_size
    was_training, table = teacher.training, None
    teacher.eval()
    with torch.no_grad():
        for start in range(0, full, batch_size):
            logits = teacher(images[start : start + batch_size])
            if table is None:
                table = torch.full((size, logits.shape[1]), math.nan)
            table[index[start : start + batch_size]] = logits
    teacher.train(was_training)
    return table if table is not None else torch.full((size, teacher(images).shape[1]), math.nan)


def shifted_by_a_batch(teacher, images, index, size, batch_size=64):
    table = cache_logits(teacher, images, index, size, batch_size)
    return torch.cat([table[1:], table[:1]])


_FOUR_IMAGES = (
    {"classes": 2, "seed": 0, "training": True},
    torch.arange(16.0).reshape(4, 1, 2, 2),
    torch.tensor([2, 0, 4, 1]),
    5,
    2,
)

EXERCISE = Exercise(
    reference=cache_logits,
    probes=probes,
    observe=cached,
    show=show,
    points=3,
    parts=(
        Part(
            "every row where it belongs",
            2,
            ("table", "every image goes through the teacher", "more than batch_size at once"),
        ),
        Part(
            "the teacher as it came",
            1,
            (
                "teacher's mode",
                "teacher's weights and statistics as they were",
                "table carries a gradient",
                "every image goes through the teacher",
            ),
        ),
    ),
    bank=(
        Wrong(
            "order_of_arrival",
            edit("table[index] = logits", "table[: len(logits)] = logits"),
            "The rows stand in the order of arrival.",
            "A shuffled loader would pair images with the logits of others: which row belongs to which image?",
        ),
        Wrong(
            "index_inverted",
            edit("table[index] = logits", "table[: len(logits)] = logits[index.argsort()]"),
            "The rows are sorted by index, but not placed at it.",
            "Where some images are missing, their rows have to stay empty between the others.",
        ),
        Wrong(
            "index_sorted",
            edit("table[index]", "table[index.sort().values]"),
            "The index has been sorted, the logits have not.",
            "Both have to stay in the same order, or neither.",
        ),
        Wrong(
            "rows_looked_up",
            edit(
                "table = torch.full((size, logits.shape[1]), math.nan)\n    table[index] = logits",
                "table = logits[index.clamp(max=len(logits) - 1)]",
            ),
            "The index is used to look rows up where it says where to put them.",
            "Think of pigeonholes: index[i] is the pigeonhole of image i.",
        ),
        Wrong(
            "no_table",
            edit(
                "    table = torch.full((size, logits.shape[1]), math.nan)\n    table[index] = logits\n",
                "    table = logits\n",
            ),
            "The logits come back as one row per image, without regard to index and size.",
            "The table has a row for each position in the full data set.",
        ),
        Wrong(
            "table_as_large_as_the_batch",
            edit("(size, ", "(int(index.max()) + 1, "),
            "The table ends at the largest index that was visited.",
            "It has to have as many rows as size says, visited or not.",
        ),
        Wrong(
            "training_mode",
            edit("    teacher.eval()\n", ""),
            "The teacher answers in training mode, where dropout and batch norm make its logits a matter of chance.",
            "The same image has to get the same logits whatever batch it comes in.",
        ),
        Wrong(
            "set_to_training_mode",
            edit("teacher.eval()", "teacher.train()"),
            "The teacher is put in training mode, where dropout and batch norm make its logits a matter of chance.",
            "The same image has to get the same logits whatever batch it comes in.",
        ),
        Wrong(
            "left_in_evaluation_mode",
            edit("    teacher.train(was_training)\n", ""),
            "The teacher stays in evaluation mode, even if it came in training mode.",
            "Whoever trains it further would not notice: note its mode before you change it.",
        ),
        Wrong(
            "left_in_training_mode",
            edit("teacher.train(was_training)", "teacher.train()"),
            "The teacher is in training mode afterwards, even if it came in evaluation mode.",
            "Note its mode before you change it, and give that one back.",
        ),
        Wrong(
            "statistics_moved",
            edit(
                "with torch.no_grad():\n",
                "with torch.no_grad():\n        teacher.train()(images)\n        teacher.eval()\n",
            ),
            "The batch-norm statistics of the teacher have moved, and with them its logits.",
            "A single pass in training mode is enough for that.",
        ),
        Wrong(
            "gradient_kept",
            edit("with torch.no_grad():", "if True:"),
            "The table hangs on the teacher's graph, which keeps every activation in memory.",
            "Nothing is going to be learned here; torch need not remember how it got the numbers.",
        ),
        Wrong(
            "last_batch_dropped",
            last_batch_dropped,
            "The last batch is dropped where it is not full.",
            "Take 5 images in batches of 2: how many batches are there?",
        ),
        Wrong(
            "first_batch_only",
            edit(
                "images.split(batch_size)])",
                "images.split(batch_size)[:1]])",
                "table[index]",
                "table[index[:batch_size]]",
            ),
            "Only the first batch is cached.",
            "Look at where the loop over the batches ends, or returns.",
        ),
        Wrong(
            "all_at_once",
            edit("images.split(batch_size)", "images.split(len(images))"),
            "All images go through the teacher at once.",
            "Sixty thousand images do not fit: batch_size says how many may go together.",
        ),
        Wrong(
            "chunk_for_split",
            edit("images.split(batch_size)", "images.chunk(batch_size)"),
            "chunk() makes batch_size batches, whatever their size.",
            "Does batch_size count the batches, or the images in one? See what chunk's argument means.",
        ),
        Wrong(
            "probabilities",
            edit("table[index] = logits", "table[index] = logits.softmax(dim=1)"),
            "The table holds probabilities.",
            "From logits any temperature can be made later; from probabilities it is awkward.",
        ),
        Wrong(
            "log_probabilities",
            edit("table[index] = logits", "table[index] = logits.log_softmax(dim=1)"),
            "The table holds log-probabilities.",
            "Store what the teacher says, as it says it.",
        ),
        Wrong(
            "classes_only",
            edit(
                "table[index] = logits",
                "table[index] = torch.nn.functional.one_hot(logits.argmax(1), logits.shape[1]).float()",
            ),
            "Only the winning class is kept.",
            "Soft labels are all of the teacher's logits.",
        ),
        Wrong(
            "zeros_for_the_unvisited",
            edit("math.nan", "0.0"),
            "Rows that were never visited are zero: they look like a teacher who finds all classes alike.",
            "A missing row has to be impossible to take for an answer.",
        ),
        Wrong(
            "shifted",
            shifted_by_a_batch,
            "The rows are shifted by one.",
            "Positions count from zero.",
        ),
    ),
    properties=(
        Property(
            "The table has to have a row for each position in the full data set.",
            lambda o, t, i, x, size, *_: len(o["table"]) == size,
        ),
        Property("The table must not carry a gradient.", lambda o, *_: not o["table carries a gradient"]),
        Property("Every image has to go through the teacher.", lambda o, *_: o["every image goes through the teacher"]),
        Property(
            "The teacher must not get more than batch_size images at once.",
            lambda o, *_: not o["more than batch_size at once"],
        ),
        Property(
            "The teacher has to be in the mode it came in.",
            lambda o, teacher, *_: o["teacher's mode"] == ("training" if teacher["training"] else "evaluation"),
        ),
        Property(
            "The teacher's weights or its batch-norm statistics have changed.",
            lambda o, *_: o["teacher's weights and statistics as they were"],
        ),
        Property(
            "Rows that were never visited have to be NaN.",
            lambda o, t, images, index, *_: int(o["table"].isnan().all(1).sum()) == len(o["table"]) - len(index),
        ),
    ),
    remarks=(
        Remark(
            "The images go through the teacher one at a time: batches of batch_size would be much faster.",
            (_FOUR_IMAGES,),
            observe=one_image_at_a_time,
        ),
        Remark(
            "Each pass builds a graph that is thrown away again: under no_grad() it is not built at all.",
            (_FOUR_IMAGES,),
            observe=builds_graphs,
        ),
    ),
)
