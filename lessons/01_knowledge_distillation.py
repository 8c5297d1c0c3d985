# %% [markdown]
# # 01 · Knowledge distillation
#
# **Question.** What is knowledge distillation, and how does it work?
#
# **Answer.** A large network, the *teacher*, is trained first. Its answers are not just classes: they are probabilities
# for all classes, and those say which mistakes are reasonable. A small network, the *student*, is then trained to
# reproduce these *soft labels*, with or without the true labels beside them.
#
# **Explanation.** A label says "boot". A teacher says "boot, with a little sneaker, and certainly not a shirt". The
# second is more information per image, so a student can learn the same from fewer images, and even something about
# images it never saw. There are four steps: train a teacher; make soft labels; train a student on the data and the soft
# labels; evaluate.
#
# **You will be able to**
# - soften a distribution with a temperature, and write the distillation loss correctly;
# - store a teacher's answers so that each meets its own image again;
# - say when distillation helps, by how much, and when it does not.
#
# *About 60 minutes for you, about two minutes for two processor cores. Lesson 00 comes before.*

# %% [markdown]
# ## Code
#
# In this course distillation is one argument of `fit`. Everything below takes this line apart:
#
# ```python
# fit(student, fashion.train, objective=Distill(teacher, temperature=4), epochs=8, seed=0)
# ```

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from IPython.display import Markdown

from kdlab import check, data, exhibits, measure, models, plots, scale, widgets
from kdlab.claims import claim
from kdlab.distillation import Distill, soft_labels, soften
from kdlab.distillation.soft_targets import soft_loss
from kdlab.experiments import interval, paired, run
from kdlab.training import evaluate, fit, predict

plots.use_style()
fashion = data.load()
fashion

# %% [markdown]
# ## Step 1: train a teacher
#
# A residual network, trained on all training images with their labels, and with random flips and shifts. Its size does
# not matter to us: it stays at home.

# %%
teacher = models.build("resnet", width=16, seed=0)
fit(
    teacher,
    fashion.train,
    val=fashion.val,
    epochs=scale.pick(smoke=2, laptop=16, full=20),
    lr=0.2,
    augment=True,
)

# %%
measure.accuracy(teacher, fashion.val)

# %% [markdown]
# ### What the teacher knows beyond the label
#
# Here are validation images on which the teacher is least sure, with its two most likely
# classes and the true one.

# %%
val_logits = predict(teacher, fashion.val)
probabilities = val_logits.softmax(dim=1)
unsure = probabilities.max(dim=1).values.argsort()[:10]
titles = [
    "\n".join(f"{fashion.classes[c]} {p:.0%}" for p, c in zip(*row.topk(2), strict=True))
    + f"\n(is: {fashion.classes[label]})"
    for row, label in zip(probabilities[unsure], fashion.val.labels[unsure], strict=True)
]
plots.gallery(fashion.val.show(unsure), titles, title="Where the teacher hesitates")

# %% [markdown]
# Now average its probabilities over all images of each class. The diagonal is what a label would have said. Everything
# else is what only the teacher can say: which classes resemble each other. In his talks Hinton called it **dark
# knowledge**.

# %%
mean_opinion = torch.stack(
    [probabilities[fashion.val.labels == c].mean(0) for c in range(10)]
)
off_diagonal = mean_opinion.masked_fill(torch.eye(10, dtype=torch.bool), torch.nan)
plt.figure(figsize=(5.4, 4.2))
plt.imshow(100 * off_diagonal, cmap="cividis")
plt.colorbar(label="mean probability (%)")
plt.xticks(range(10), fashion.classes, rotation=60, ha="right")
plt.yticks(range(10), fashion.classes)
plt.grid(False)
plt.xlabel("what the teacher also considers")
plt.ylabel("true class")
plt.title("What labels do not say (diagonal left out)")
plt.show()

# %% [markdown]
# ## Step 2: make soft labels
#
# Most of the teacher's probabilities are near 0 or 1, where differences can hardly be seen. A **temperature** $T$
# brings them out. Here is a picture of which the teacher is nearly certain:

# %%
certain = int((probabilities.max(dim=1).values - 0.99).abs().argmin())
fig, axes = plt.subplots(1, 3, figsize=(7.4, 2.9), sharey=True)
for ax, T in zip(axes, [1, 4, 20], strict=True):
    softened = soften(val_logits[certain : certain + 1], T)[0]
    ax.barh(fashion.classes, softened, color=plots.COLOURS[0])
    ax.set(title=f"T = {T}", xlim=(0, 1), xlabel="probability")
axes[0].invert_yaxis()
name = fashion.classes[fashion.val.labels[certain]]
fig.suptitle(
    f"The temperature brings out what else a {name} resembles",
    x=0.01,
    ha="left",
    fontsize=11,
)
plt.show()

# %% [markdown]
# $$p_i(T) = \frac{\exp(z_i / T)}{\sum_j \exp(z_j / T)}$$
#
# The logits $z$ are the network's outputs before the softmax (Hinton 2015, equation 1). $T = 1$ is the ordinary
# softmax. A large $T$ makes the distribution flat; a small one makes it a one-hot label.

# %% [markdown]
# ### Exercise 1: soften logits
#
# *Difficulty ●○○ · 5 minutes · you will have: soft targets.*
#
# Complete `my_soften`: from logits of shape `(N, classes)` and a temperature to probabilities of the same shape.


# %% exercise="soften"
def my_soften(logits, temperature):
    """Return the probabilities at this temperature, shape (N, classes)."""
    ### BEGIN SOLUTION
    return torch.softmax(logits / temperature, dim=1)
    ### END SOLUTION


# %% check="soften" points=2
check.soften(my_soften)
### BEGIN HIDDEN TESTS
check.grade("soften", my_soften)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
#
# Which dimension holds the classes? Each row has to sum to one.
# </details>

# %% [markdown] solution="soften"
# **Why.** Dividing the logits by $T$ shrinks the differences between them, and the softmax only sees differences. The
# order of the classes never changes: a temperature cannot turn a wrong answer into a right one.

# %% [markdown]
# ### Move it yourself
#
# The teacher's real logits, any validation image, any temperature.

# %%
widgets.temperature_explorer(val_logits, fashion.val, image=certain)

# %% [markdown]
# ### Ask once, look up often
#
# A student sees each image many times, and the teacher would give the same answer each time. So ask once and store the
# **logits**: from them any temperature can be made later. The danger is the look-up. Training shuffles the images, so
# the answers must be found by the **index** of the sample, never by the order of arrival.

# %% [markdown]
# ### Exercise 2: a table of soft labels
#
# *Difficulty ●●○ · 15 minutes · you will have: distillation at the price of ordinary training.*
#
# Complete `cache_logits`. `index[i]` says which sample `images[i]` is. Return a table of shape `(size, classes)` whose
# row `index[i]` holds the teacher's logits of `images[i]`; rows of samples that were not given hold NaN. Show the teacher
# at most `batch_size` images at a time. The teacher must be in eval mode, without gradients, and afterwards in the mode it came in.


# %% exercise="cache_logits"
def cache_logits(teacher, images, index, size, batch_size=64):
    """Return a (size, classes) table of logits; row index[i] belongs to images[i]."""
    ### BEGIN SOLUTION
    was_training = teacher.training
    teacher.eval()
    with torch.no_grad():
        logits = torch.cat([teacher(part) for part in images.split(batch_size)])
    teacher.train(was_training)
    table = torch.full((size, logits.shape[1]), torch.nan)
    table[index] = logits
    return table
    ### END SOLUTION


# %% check="cache_logits" points=3
check.cache_logits(cache_logits)
### BEGIN HIDDEN TESTS
check.grade("cache_logits", cache_logits)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Make the whole table first, full of NaN. A tensor can be indexed by a tensor of positions, on either side of an `=`.
# </details>
# <details><summary>Hint 2</summary>
#
# `eval()` stops dropout and freezes batch norm's statistics; it does not stop gradients. `torch.no_grad()` does that.
# </details>

# %% [markdown] solution="cache_logits"
# **Why.** In train mode batch norm would use the statistics of the present batch, so that the answer for an image would
# depend on its neighbours, and asking would change the teacher. NaN in the unvisited rows turns a wrong look-up into a
# loud failure instead of a quiet one.

# %% [markdown]
# The library's `soft_labels` does the same and keeps the table on disk, under a name made of the teacher's weights and
# the data:

# %%
soft = soft_labels(teacher, fashion.train)
soft

# %% [markdown]
# ## Step 3: train a student on the data and the soft labels
#
# The student should give the teacher's distribution. How far it is from that is measured by the Kullback-Leibler (KL)
# divergence between the two softened distributions. The loss is a weighted mean of this and of the ordinary
# cross-entropy (CE) with the labels:
#
# $$L = (1 - \alpha)\,\mathrm{CE}(z_s, y) \;+\; \alpha\,T^2\,\mathrm{KL}\big(p_t(T)\,\|\,p_s(T)\big)$$
#
# where $z_s$ are the student's logits, $p_t$ and $p_s$ the teacher's and the student's softened distributions, and
# $\alpha$ the teacher's weight. Usual values are $T = 4$ and $\alpha = 0.9$.

# %% [markdown]
# ### Why $T^2$?
#
# Softening both sides makes the gradient smaller, by about $T^2$. Without the factor, turning up the temperature would
# turn down the teacher's say. Here is the size of the gradient that reaches the student's logits, for five untrained
# students:

# %%
temperatures = np.array([1, 2, 4, 8, 16, 32])
some = slice(0, 200)
targets = soft[fashion.train.index[some]]


def gradient_size(seed, T):
    student = models.build("cnn", width=8, seed=seed)
    z = predict(student, fashion.train.images[some]).requires_grad_()
    soft_loss(z, targets, T).backward()
    return {"with T²": z.grad.norm().item(), "without": z.grad.norm().item() / T**2}


sizes = run(gradient_size, {"T": temperatures.tolist()}, over=5, jobs=1, progress=False)

# %%
fig, ax = plt.subplots(figsize=(6.4, 3))
for number, kind in enumerate(["with T²", "without"]):
    by_seed = sizes.pivot(index="seed", columns="T", values=kind)
    plots.curve(ax, temperatures, by_seed.to_numpy(), kind, number)
ax.set(xscale="log", yscale="log", xlabel="temperature T", ylabel="size of the gradient")
ax.set_xticks(temperatures, map(str, temperatures))
ax.set_title("T² keeps the gradient's size")
ax.legend()
plt.show()

# %%
wide = sizes.pivot(index="seed", columns="T")
claim(
    "With T² the gradient at T = 32 is about as large as at T = 8.",
    interval(wide["with T²"][32] / wide["with T²"][8], unit="times the gradient at T = 8"),
    above=0.5,
    below=2,
)

# %%
claim(
    "Without T² the gradient at T = 32 is less than an eighth of that at T = 8.",
    interval(wide["without"][32] / wide["without"][8], unit="times the gradient at T = 8"),
    below=1 / 8,
)

# %% [markdown]
# ### What happens at very high temperatures
#
# As $T$ grows, $T^2\,\mathrm{KL}$ tends to $\frac{1}{2C}\lVert \tilde z_s - \tilde z_t\rVert^2$, where $\tilde z$ are the
# logits with their mean over the $C$ classes taken away (Hinton 2015, section 2.1). So at high temperature distillation
# *is* matching centred logits, the older recipe of Ba & Caruana (2014).


# %%
def distance_to_limit(seed, T):
    student = models.build("cnn", width=8, seed=seed)
    z = predict(student, fashion.train.images[some])
    centred = (z - z.mean(1, keepdim=True)) - (targets - targets.mean(1, keepdim=True))
    limit = centred.square().sum(1).mean() / (2 * z.shape[1])
    exact = soft_loss(z.double(), targets.double(), T)
    return {"relative": abs(exact.item() / limit.item() - 1)}


far = run(distance_to_limit, {"T": [1, 4, 16, 64, 256]}, over=5, jobs=1, progress=False)
claim(
    "At T = 256 the loss is within five percent of matching centred logits.",
    interval(100 * far.loc[far["T"] == 256, "relative"], unit="percent away"),
    below=5,
)

# %% [markdown]
# ### Exercise 3: the distillation loss
#
# *Difficulty ●●○ · 15 minutes · you will have: the formula above, as code that learns the right thing.*
#
# Complete `distillation_loss`. `F.kl_div` is awkward: it takes the student's **log**-probabilities first, then the
# teacher's distribution, and what it averages over is decided by its `reduction`. Average over the images of the batch.
# No gradient may reach the teacher's logits.


# %% exercise="distillation_loss"
def distillation_loss(student_logits, teacher_logits, labels, temperature=4.0, alpha=0.9):
    """Return (1 - alpha) CE + alpha T^2 KL(teacher || student), a scalar."""
    ### BEGIN SOLUTION
    hard = F.cross_entropy(student_logits, labels)
    soft = F.kl_div(
        F.log_softmax(student_logits / temperature, dim=1),
        F.log_softmax(teacher_logits.detach() / temperature, dim=1),
        log_target=True,
        reduction="batchmean",
    )
    return (1 - alpha) * hard + alpha * temperature**2 * soft
    ### END SOLUTION


# %% check="distillation_loss" points=3
check.distillation_loss(distillation_loss)
### BEGIN HIDDEN TESTS
check.grade("distillation_loss", distillation_loss)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Compute the divergence of two identical images and of one: the value should be the same. Then give both an eleventh
# class that nobody predicts: it should hardly change. Which `reduction` does that?
# </details>
# <details><summary>Hint 2</summary>
#
# The temperature belongs to both sides of the divergence, and not to the cross-entropy with the labels.
# </details>

# %% [markdown] solution="distillation_loss"
# **Why.** Log-probabilities on both sides (`log_target=True`) stay finite where a probability would round to zero. The
# teacher is detached: it is the target, not a second student. The cross-entropy stays at $T = 1$ because the student
# will be used at $T = 1$.

# %% [markdown]
# ### Two recipes
#
# The **plain recipe**, as it is often written: predict with the teacher, fit the student on the predictions, and never
# look at a label.

# %%
transfer = fashion.train.sample(scale.pick(smoke=200, laptop=1000, full=1000), seed=0)
budget = {"epochs": scale.pick(smoke=2, laptop=60, full=60), "lr": 0.1, "batch_size": 64}

plain = models.build("cnn", width=8, seed=0)
fit(plain, transfer.unlabelled(), objective=Distill(soft, temperature=4, alpha=1), **budget)

# %% [markdown]
# `unlabelled()` has replaced every label by -1, so nothing could have been learned from them. The **full recipe** uses
# the labels and the soft labels:

# %%
full = models.build("cnn", width=8, seed=0)
fit(full, transfer, objective=Distill(soft, temperature=4, alpha=0.9), **budget)

# %%
alone = models.build("cnn", width=8, seed=0)
fit(alone, transfer, **budget)

Markdown(
    f"One seed, {len(transfer):,} images. Labels only: {evaluate(alone, fashion.val):.1%}. Soft labels only: "
    f"{evaluate(plain, fashion.val):.1%}. Both: {evaluate(full, fashion.val):.1%}. One seed is no evidence; that comes "
    "in step 4."
)

# %% [markdown]
# ### Exercise 4: spot the bug
#
# *Difficulty ●●● · 10 minutes · you will have: an eye for three mistakes that are all found in public code.*
#
# The function below runs, its loss falls, and the student even learns something. It contains **three** mistakes. Repair
# it so that it returns $T^2\,\mathrm{KL}(p_t(T)\,\|\,p_s(T))$, averaged over the batch.


# %% exercise="repaired_loss" bug=true
def repaired_loss(student_logits, teacher_logits, temperature):
    """Return T^2 KL(teacher || student) of the softened distributions, a scalar."""
    ### BEGIN STUB
    # student = F.log_softmax(student_logits / temperature, dim=1)
    # teacher = F.softmax(teacher_logits.softmax(dim=1) / temperature, dim=1)
    # return F.kl_div(student, teacher)
    ### END STUB
    ### BEGIN SOLUTION
    student = F.log_softmax(student_logits / temperature, dim=1)
    teacher = F.softmax(teacher_logits / temperature, dim=1)
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean")
    ### END SOLUTION


# %% check="repaired_loss" points=3
check.repaired_loss(repaired_loss)
### BEGIN HIDDEN TESTS
check.grade("repaired_loss", repaired_loss)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# One mistake is in what the teacher's side is made of, one in how the sum is divided, one in what is missing.
# </details>

# %% [markdown] solution="repaired_loss"
# **Why.** A softmax of probabilities is nearly flat whatever the teacher thinks, so its knowledge is lost. The default
# reduction divides by the number of classes as well. And without $T^2$ the loss shrinks as the temperature rises. Each
# mistake alone only weakens the teacher, which is why such code survives: the labels still train the student.

# %% [markdown]
# ## Step 4: evaluate
#
# The student is a far smaller CNN. How much does the teacher help it, and when?

# %%
student = models.build("cnn", width=8)
prices = [
    {
        "network": name,
        "parameters": measure.parameters(net),
        "bytes": measure.bytes_on_disk(net),
        "MACs": measure.macs(net, fashion.val.images[:1]),
        "latency µs": 1e6 * measure.latency(net, fashion.val.images[:1]).median,
    }
    for name, net in {"teacher": teacher, "student": student}.items()
]
plots.table(
    prices,
    "network",
    {"parameters": "{:,}", "bytes": "{:,}", "MACs": "{:,}", "latency µs": "{:,.0f}"},
)

# %% [markdown]
# ### The temperature is chosen on val
#
# With seeds of its own, so that the choice and the evidence do not share their luck.

# %%
examples = scale.pick(smoke=1_200, laptop=60_000, full=400_000)


def train_student(seed, images, temperature, alpha):
    """The same budget for everyone: `examples` training examples seen."""
    student = models.build("cnn", width=8, seed=seed)
    part = fashion.train.sample(min(images, len(fashion.train)), seed=seed)
    objective = Distill(soft, temperature, alpha) if alpha else None
    part = part.unlabelled() if alpha == 1 else part
    epochs = max(1, examples // len(part))
    fit(student, part, objective=objective, epochs=epochs, lr=0.1, batch_size=64, seed=seed)
    return {"val": evaluate(student, fashion.val), "student": student}


few = scale.pick(smoke=200, laptop=1000, full=1000)
trial_seeds = scale.pick(smoke=[1000], laptop=[1000, 1001, 1002])
trial = run(
    train_student,
    {"images": [few], "temperature": [1, 2, 4, 8], "alpha": [0.9]},
    over=trial_seeds,
)
mean_by_temperature = trial.groupby("temperature")["val"].mean()
best_temperature = int(mean_by_temperature.idxmax())

fig, ax = plt.subplots(figsize=(6.4, 2.6))
by_seed = 100 * trial.pivot(index="seed", columns="temperature", values="val")
plots.curve(ax, by_seed.columns, by_seed.to_numpy(), "distilled", 0)
ax.set(xscale="log", xlabel="temperature T", ylabel="accuracy on val (%)")
ax.set_xticks(by_seed.columns, map(str, by_seed.columns))
ax.minorticks_off()
ax.set_title(f"Chosen on val: T = {best_temperature}")
plt.show()

# %% [markdown]
# ### Few labels, many labels
#
# Now the experiment. The student is given few or many of the training images; it learns from the labels alone, or from
# labels and teacher. Every run sees the same number of training examples. The seeds decide the images, the initial
# weights and the order.
#
# Keep in mind what is compared: the teacher has learned from *all* training images and their labels. The question is
# what its opinion of a few of them is worth to a student who gets no more than those. And the teacher's temperature was
# chosen among four; learning from labels has nothing of the kind to choose.
#
# This experiment and the one after it are the final report of this lesson, so they are scored on **test** data, at which
# the lesson has not looked so far.

# %%
amounts = scale.pick(smoke=[200, 600], laptop=[300, 1000, 3000, 10_000])
kinds = {
    "labels": (1, 0.0),
    "both": (best_temperature, 0.9),
    "soft labels": (best_temperature, 1.0),
}


def compare(seed, images, kind):
    temperature, alpha = kinds[kind]
    student = train_student(seed, images, temperature, alpha)["student"]
    return {"test": evaluate(student, fashion.test, final=True)}


settings = [{"images": n, "kind": k} for n in amounts for k in ("labels", "both")]
settings += [{"images": n, "kind": "soft labels"} for n in (few, amounts[-1])]
results = run(compare, settings, over=scale.pick(smoke=2, laptop=5))

# %%
fig, ax = plt.subplots()
for number, (kind, name) in enumerate(
    {"labels": "labels alone", "both": "labels and teacher"}.items()
):
    of_kind = results[(results["kind"] == kind) & results["images"].isin(amounts)]
    by_seed = 100 * of_kind.pivot(index="seed", columns="images", values="test")
    plots.curve(ax, by_seed.columns, by_seed.to_numpy(), name, number)
teacher_accuracy = measure.accuracy(teacher, fashion.test, final=True)
ax.axhline(
    100 * teacher_accuracy.value, color="black", ls=":", label="teacher (all images)"
)
ax.set(xscale="log", xlabel="images given to the student", ylabel="accuracy on test (%)")
ax.set_xticks(amounts, [f"{n:,}" for n in amounts])
ax.minorticks_off()
ax.set_title("A teacher is worth most where the student sees few images")
ax.legend()
plt.show()

# %% [markdown]
# These networks go on show: lesson 07 draws what the course has trained on your machine. For that, all files have eight bits a
# weight, as is explained there.

# %%
first, one_image = int(results["seed"].min()), fashion.val.images[:1]
shown_later = [
    exhibits.row(
        f"{kind}, {images:,} images",
        train_student(first, images, *kinds[kind])["student"],
        one_image,
        rows["test"].mean(),
    )
    for (kind, images), rows in results.groupby(["kind", "images"], sort=False)
]
shown_later.append(exhibits.row("teacher", teacher, one_image, teacher_accuracy.value))
exhibits.keep("01 distillation", pd.DataFrame(shown_later))


# %%
def gain(images, kind="both"):
    rows = results[results["images"] == images]
    return paired(rows, "test", better={"kind": kind}, than={"kind": "labels"})


gains = {n: gain(n) for n in amounts}
Markdown(
    "\n".join(f"- {n:,} images: the teacher adds {g.text()}" for n, g in gains.items())
)

# %%
claim(
    f"With {few:,} labels, the distilled student beats the same student alone by more than a point.",
    gain(few),
    above=0.01,
)

# %%
claim(
    "With all labels the gain is small: less than a point.",
    gain(amounts[-1]),
    below=0.01,
)

# %%
claim(
    f"With {few:,} images, a student that sees no label is better than one that sees them all.",
    gain(few, "soft labels"),
    above=0,
)

# %%
claim(
    "With all images, a student that sees no label about matches one that sees them all: within two points.",
    gain(amounts[-1], "soft labels"),
    within=0.02,
)

# %% [markdown]
# Why does the gain vanish? Where the student sees few images, the teacher carries knowledge of all the others that it was
# trained on, and the student gets a share of it. Where the student already sees every image with its label, the teacher
# has less to add. Whether a larger student, a longer training (Beyer 2022 trains for thousands of epochs) or another
# teacher would change that is not settled by this experiment. Lesson 02 looks at what makes a teacher good.

# %% [markdown]
# ## A class the student never saw
#
# The most surprising experiment of Hinton's paper (section 3): leave one class out of the student's transfer set. Can the
# student still know it?
#
# We leave out every **bag**. The student learns from soft labels alone, on pictures of the nine other classes. It has
# never seen a bag; it has only seen how much of a bag the teacher sees in shirts and boots. A control student learns the
# same nine classes from their labels.
#
# A class that never occurred has a bias that is far too low. One number, added to the logit of "bag", is chosen on the
# labelled images of val, bags included, and then used on test; for the control likewise.

# %%
BAG = fashion.classes.index("bag")
shifts = np.arange(0, 15, 0.25)


def shift_bag(logits, shift):
    return logits + shift * F.one_hot(torch.tensor(BAG), 10)


def never_saw_a_bag(seed, learns_from):
    part = fashion.train.without("bag")
    student = models.build("cnn", width=8, seed=seed)
    objective = None
    if learns_from == "soft labels":
        part, objective = part.unlabelled(), Distill(soft, temperature=4, alpha=1)
    epochs = max(1, examples // len(part))
    fit(student, part, objective=objective, epochs=epochs, lr=0.1, batch_size=64, seed=seed)

    on_val, on_test = predict(student, fashion.val), predict(student, fashion.test)
    right = [
        (shift_bag(on_val, s).argmax(1) == fashion.val.labels).sum().item() for s in shifts
    ]
    shift = shifts[int(np.argmax(right))]
    bags = fashion.test.labels == BAG
    before, after = on_test.argmax(1), shift_bag(on_test, shift).argmax(1)
    return {
        "shift": shift,
        "recall before": (before[bags] == BAG).float().mean().item(),
        "recall after": (after[bags] == BAG).float().mean().item(),
        "accuracy before": (before == fashion.test.labels).float().mean().item(),
        "accuracy after": (after == fashion.test.labels).float().mean().item(),
    }


missing = run(
    never_saw_a_bag,
    {"learns_from": ["labels", "soft labels"]},
    over=scale.pick(smoke=2, laptop=5),
)
missing.groupby("learns_from").mean().drop(columns="seed").style.format("{:.2f}")

# %% tags=["readme"]
taught = missing[missing["learns_from"] == "soft labels"]
control = missing[missing["learns_from"] == "labels"]
plots.dots(
    {
        "labels, as trained": control["recall before"],
        "labels, bias shifted": control["recall after"],
        "soft labels, as trained": taught["recall before"],
        "soft labels, bias shifted": taught["recall after"],
    },
    xlabel="bags recognised, of all test bags (%)",
    title="Soft labels tell a student about bags it never saw",
)

# %%
Markdown(
    f"After the shift, the taught student recognises **{taught['recall after'].mean():.0%}** of the bags; the control, "
    f"shifted in the same way, {control['recall after'].mean():.0%}. Before the shift both say *bag* for "
    f"{taught['recall before'].mean():.0%} and {control['recall before'].mean():.0%} of them."
)

# %%
claim(
    "A student that never saw a bag recognises most bags after one bias is shifted.",
    interval(taught["recall after"], unit="%"),
    above=0.5,
)

# %%
claim(
    "It was the teacher who taught it about bags: a student of the labels, shifted in the same way, recognises far fewer.",
    paired(
        missing,
        "recall after",
        better={"learns_from": "soft labels"},
        than={"learns_from": "labels"},
    ),
    above=0.1,
)

# %%
claim(
    "Over all classes, too, the taught student is the better one after the shift.",
    paired(
        missing,
        "accuracy after",
        better={"learns_from": "soft labels"},
        than={"learns_from": "labels"},
    ),
    above=0,
)

# %% [markdown]
# The control matters. It recognises many bags too: our guess is that a picture unlike all nine known classes makes every
# network unsure, and the shift turns unsure answers into "bag". What the teacher added is the difference between the two.

# %% [markdown]
# ## Summary
#
# | step | in words | in code |
# |---|---|---|
# | 1 | train a teacher | `fit(teacher, train, …)` |
# | 2 | make soft labels | `soft = soft_labels(teacher, train)` |
# | 3 | train a student on data and soft labels | `fit(student, train, objective=Distill(soft, temperature, alpha))` |
# | 4 | evaluate | several seeds, a control at equal budget, paired intervals |
#
# - A soft label says which mistakes are reasonable. The temperature brings that out; $T^2$ keeps the gradient's size.
# - Distillation stands in for data: it is worth much where the student sees few images, and next to nothing here where it
#   sees them all.
# - Look answers up by sample index; keep the teacher in eval mode.
#
# ## Check yourself
#
# <details><summary>1. Your loss has no factor T². You raise T from 4 to 8. What happens to the student?</summary>
#
# The teacher's gradient becomes about four times smaller, so the labels decide nearly everything.
# </details>
# <details><summary>2. Why are logits stored, and not probabilities?</summary>
#
# Any temperature can be applied to logits later. From probabilities that were rounded to zero nothing comes back.
# </details>
# <details><summary>3. Your student is trained with random shifts, and its teacher's answers come from a table. What is
# wrong?</summary>
#
# The table holds answers about the unshifted images. Teacher and student must see the same view: ask the teacher in
# every step. (`Distill(teacher)` does this by itself when `fit` augments; a table is refused.)
# </details>
#
# ## Further reading
#
# - G. Hinton, O. Vinyals, J. Dean. Distilling the knowledge in a neural network. arXiv:1503.02531, 2015.
# - J. Ba, R. Caruana. Do deep nets really need to be deep? *NeurIPS*, 2014. arXiv:1312.6184.
# - C. Buciluă, R. Caruana, A. Niculescu-Mizil. Model compression. *KDD*, 2006.
# - L. Beyer et al. Knowledge distillation: a good teacher is patient and consistent. *CVPR*, 2022. arXiv:2106.05237.
#
# ## What comes next
#
# Here the teacher was given. What makes a good one, and whether a student really imitates it, is the question of lesson
# 02.
