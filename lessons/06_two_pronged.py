# %% [markdown]
# # 06 · Distillation and pruning together
#
# **Question.** Distillation makes a small network learn from a large one. Pruning takes from a network what it does not
# need. How are the two combined?
#
# **Answer.** As usually told, in five steps: train a teacher, make soft labels, prune the teacher, train a student from the
# pruned teacher and the data, evaluate. What the student learns from is an *objective*, what may live in it is a
# *constraint*, and both are handed to the same training loop.
#
# **Explanation.** A recipe of five steps has many more than five ways to go wrong, and several ways to look as if it worked.
# This lesson first follows the recipe to the letter, and finds that one of its steps does nothing. Then it sets it right,
# and asks what every step is worth: against networks of the same size that did without it, with the same training.
#
# **You will be able to**
# - combine distillation and pruning in one line, or in a recipe that can be read, stopped and resumed;
# - find a step of a pipeline that has no effect;
# - derive a student's widths from what pruning has left;
# - design an experiment that tells what a combination adds, and read its table without fooling yourself.
#
# *About 60 minutes for you, between three and four minutes for two processor cores. Lessons 01 and 03 come before.*

# %% [markdown]
# ## Code
#
# The whole combination, distillation and pruning, or *two-pronged* for short, is one line. You know its objective from
# lesson 01. Its constraint is new if you skipped lesson 05: `Gradual(0.8)` prunes a little every few steps, until 80 % of
# the weights are zero after three quarters of the training, and the last quarter heals.
#
# ```python
# fit(student, images, objective=Distill(teacher), sparsity=Gradual(0.8), epochs=15)
# ```

# %%
import copy
import itertools
import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from IPython.display import Markdown

from kdlab import check, data, exhibits, measure, models, plots, recipe, scale
from kdlab import pruning as prune
from kdlab.claims import claim, finding
from kdlab.distillation import Distill, soft_labels
from kdlab.experiments import interval, paired, run
from kdlab.training import evaluate, fit

plots.use_style()
fashion = data.load()
one_image = fashion.val.images[:1]
fashion

# %% [markdown]
# ## The situation
#
# A teacher has been trained on all the images. Whoever compresses it has fewer: here a thousand. That is where lesson 01
# saw distillation help, and it is common: the weights of a network travel, its data often does not. The teacher's owner may
# also prune it, on all the images. Only whoever makes the student has a thousand.
#
# We chose this situation because distillation helps in it. Before, we had tried another one (not shown here, with seeds of its
# own): 5,000 images for the teacher and for its students. There soft labels made most students *worse*, since their teacher
# was hardly better than they were. So take the gains below as those of this situation, not as typical. We did not choose
# the teachers, the orders, or the comparison with a plainly trained network by their results.

# %%
SEEDS = scale.pick(smoke=2, laptop=5)
few = fashion.train.sample(scale.pick(smoke=100, laptop=1_000, full=5_000), seed=0)
LARGE = {"name": "cnn", "width": 24}
FIRST = scale.pick(smoke=1, laptop=6, full=12)  # epochs of a teacher, on all images
MORE = scale.pick(smoke=1, laptop=4, full=8)  # epochs of pruning it, on all images
EPOCHS = scale.pick(smoke=2, laptop=15, full=15)  # epochs of a student, on the few
kd = {"temperature": 4, "alpha": 0.9}  # as in lesson 01; not tuned here, for any network
few

# %% [markdown]
# ## The recipe, to the letter
#
# `kdlab.recipe` writes a pipeline down as steps. Nothing new is behind it: every step that trains calls `fit`. But a recipe
# can be printed and checked before anything is trained, and every step is kept on disk, so a recipe that was stopped goes
# on where it was.


# %%
def as_told(sparsity):
    """Teacher, soft labels, prune the teacher, student, evaluate."""
    return recipe.Recipe(
        recipe.TrainTeacher(LARGE, epochs=FIRST, data=fashion.train),
        recipe.MakeSoftLabels(),
        recipe.PruneTeacher(sparsity=sparsity, epochs=MORE, data=fashion.train, lr=0.05),
        recipe.TrainStudent({"name": "cnn", "width": 8}, epochs=EPOCHS, **kd),
        recipe.Evaluate(),
        data=few,
        val=fashion.val,
    )


as_told(0.5)

# %%
told = as_told(0.5).run(seed=0)

# %% [markdown]
# The prices after every step, in a table. *Examples* counts all steps so far. *Packed bytes* is the compressed file that
# leaves the zeros out.

# %%
columns = {
    "network": "{}",
    "examples": "{:,}",
    "nonzeros": "{:,}",
    "packed bytes": "{:,}",
    "MACs": "{:,}",
    "accuracy": "{:.1%}",
}
plots.table(told.rows, "step", columns)

# %% [markdown]
# A small student, a pruned teacher, an accuracy that one might believe. It looks as if it worked. Now change one thing: prune the teacher
# *brutally*. A student that learns from a ruined teacher should suffer.

# %%
ruined = as_told(0.99).run(seed=0)
told_apart = {
    "pruned teacher": [bench.rows[2]["accuracy"] for bench in (told, ruined)],
    "student": [bench.rows[-1]["accuracy"] for bench in (told, ruined)],
}
plots.table(
    [{"network": name, "at 50 %": a, "at 99 %": b} for name, (a, b) in told_apart.items()],
    "network",
    {"at 50 %": "{:.2%}", "at 99 %": "{:.2%}"},
)

# %%
same = all(
    torch.equal(a, b)
    for a, b in zip(
        told.student.state_dict().values(),
        ruined.student.state_dict().values(),
        strict=True,
    )
)
claim(
    "In the recipe as it is told, the pruned teacher has no influence on the student: however it is pruned, "
    "the student is the same to the last bit.",
    f"all weights of the two students equal: {same}",
    holds=same,
)

# %% [markdown]
# The soft labels were made **before** the teacher was pruned. Step 3 costs training time, prints a nice row in the table,
# and nothing after it uses its result. No accuracy of a single run shows this kind of mistake. What shows it is a question
# that you can put to any pipeline: *if I break this step, does the end notice?*

# %% [markdown]
# ### Exercise 1: spot the bug
#
# *Difficulty ●●● · 15 minutes · you will have: the two-pronged recipe, with a pruned teacher that really teaches.*
#
# The recipe: prune a trained teacher, let the *pruned* teacher say its soft labels, train a student on them.
# `prune(network)` prunes a network in place and returns it. `train_student(images, soft)` takes logits, one row for
# every image, and returns the student. Whoever calls `two_pronged` still needs the dense teacher: it has to stay as it
# came, in its weights and in its mode, and it may come in training mode. The code below runs without complaint. It
# contains **three** mistakes.


# %% exercise="two_pronged" bug=true
def two_pronged(teacher, images, prune, train_student):
    """Return a student trained on what a pruned copy of `teacher` says."""
    ### BEGIN STUB
    # with torch.no_grad():
    #     soft = teacher(images)
    # pruned = prune(teacher)
    # return train_student(images, soft)
    ### END STUB
    ### BEGIN SOLUTION
    pruned = copy.deepcopy(teacher)
    pruned.eval()
    prune(pruned)
    with torch.no_grad():
        soft = pruned(images)
    return train_student(images, soft)
    ### END SOLUTION


# %% check="two_pronged" points=3
check.two_pronged(two_pronged)
### BEGIN HIDDEN TESTS
check.grade("two_pronged", two_pronged)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Follow `soft` from where it is made to where it is used. Would it be another one, if nothing were pruned?
# </details>
# <details><summary>Hint 2</summary>
#
# Batch norm answers differently in training mode and in evaluation mode. And ask where the dense weights are when
# everything is over.
# </details>

# %% [markdown] solution="two_pronged"
# **Why.** Soft labels are the only thing that passes from the teacher to the student. Made before pruning, they are
# those of the dense teacher, and pruning it changes nothing: the experiment would compare plain distillation with
# itself, and nothing in its result would say so. The pruned network is a copy, because `prune` works in place and the
# dense teacher is the control. And the copy answers in evaluation mode: in training mode, batch norm makes the answer
# for one image depend on all the others that happen to stand beside it.

# %% [markdown]
# ## The recipe, set right
#
# Two steps change places: now the soft labels come from the pruned teacher.


# %%
def set_right(sparsity, student):
    """The soft labels come from the pruned teacher."""
    return recipe.Recipe(
        recipe.TrainTeacher(LARGE, epochs=FIRST, data=fashion.train),
        recipe.PruneTeacher(sparsity=sparsity, epochs=MORE, data=fashion.train, lr=0.05),
        recipe.MakeSoftLabels(of="pruned teacher"),
        recipe.TrainStudent(student, epochs=EPOCHS, **kd),
        data=few,
        val=fashion.val,
    )


def end_of(bench):
    return bench.rows[-1]["accuracy"]


small = {"name": "cnn", "width": 8}
right = {s: set_right(s, small).run(seed=0, progress=False) for s in (0.5, 0.99)}
answers = [
    {"recipe": "as told", "at 50 %": end_of(told), "at 99 %": end_of(ruined)},
    {"recipe": "set right", "at 50 %": end_of(right[0.5]), "at 99 %": end_of(right[0.99])},
]
plots.table(answers, "recipe", {"at 50 %": "{:.2%}", "at 99 %": "{:.2%}"})

# %% [markdown]
# The same small student, the same question. As told, the end does not notice that the teacher was ruined. Set right, it does.
#
# The student may take its *size* from the pruned teacher, too. How, is the next section. (It is a larger student than the one
# above, so do not compare their accuracies.)

# %%
WIDTHS = "widths of the pruned teacher"
print(set_right(0.8, WIDTHS))
derived = set_right(0.8, WIDTHS).run(seed=0, progress=False)
plots.table(derived.rows, "step", columns)

# %% [markdown]
# The recipe refuses an order that cannot work, before it trains anything:

# %% tags=["raises-exception"]
recipe.Recipe(
    recipe.MakeSoftLabels(),
    recipe.TrainTeacher(LARGE, epochs=FIRST),
    data=few,
    val=fashion.val,
)

# %% [markdown]
# It could not refuse the first recipe. Its order *can* be followed; it is only useless. For that there is no check, only
# you.

# %% [markdown]
# ## How wide should the student be?
#
# Pruning has found out how many weights each layer needs. Park and No (2022) build a dense student with just so many, layer
# by layer from the picture on. A convolution with $k \times k$ kernels that reads $w_{l-1}$ channels and makes $w_l$ has
# $k^2 \, w_{l-1} w_l$ weights. Set that equal to the weights that are left, and solve:
#
# $$w_l = \mathrm{round}\left(\frac{\text{remaining}_l}{k^2 \, w_{l-1}}\right)$$

# %% [markdown]
# ### Exercise 2: the student's widths
#
# *Difficulty ●○○ · 10 minutes · you will have: a dense student with the capacity that pruning has left.*
#
# `remaining` are the numbers of weights that are not zero in the layers of a pruned teacher, from the first layer to
# the last. The layers are convolutions in a chain, with kernels of `kernel` × `kernel`; the picture has `inputs`
# channels. Return the widths of a dense chain with as many weights, layer by layer (Park & No 2022, section 3.2):
#
# $$w_l = \mathrm{round}\!\left(\frac{\text{remaining}_l}{k^2\, w_{l-1}}\right), \quad w_0 = \text{inputs},$$
#
# and at least 1; the next layer reads this rounded width. The result is a list of whole numbers, one a layer.


# %% exercise="student_widths"
def student_widths(remaining, inputs, kernel):
    """Return the width of every layer of a dense student."""
    ### BEGIN SOLUTION
    widths, before = [], inputs
    for count in remaining:
        before = max(1, round(count / (kernel**2 * before)))
        widths.append(before)
    return widths
    ### END SOLUTION


# %% check="student_widths" points=2
check.student_widths(student_widths)
### BEGIN HIDDEN TESTS
check.grade("student_widths", student_widths)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
#
# A dense layer has (what it reads) × (what it makes) × kernel² weights. You know three of the four numbers. What a
# layer reads is what *your* layer before it makes, not what the teacher's made.
# </details>

# %% [markdown] solution="student_widths"
# **Why.** Each width is rounded before the next one is computed, because the next layer of the student reads whole
# channels: so a rounding error stays in its layer, and does not grow along the chain. A layer that pruning has nearly emptied keeps one
# channel, or nothing would get through it.

# %% [markdown]
# Here are the weights of each layer, for the teacher above and the student made from it:

# %%
sparse, dense = prune.weights(derived.pruned_teacher), prune.weights(derived.student)
layers = list(sparse)
bars = {
    "teacher": [w.numel() for w in sparse.values()],
    "left in the pruned teacher": [int(w.count_nonzero()) for w in sparse.values()],
    "student": [w.numel() for w in dense.values()],
}
fig, ax = plt.subplots(figsize=(6.4, 2.8))
for number, (name, values) in enumerate(bars.items()):
    places = np.arange(len(layers)) + 0.27 * (number - 1)
    ax.bar(places, values, 0.25, label=name, color=plots.COLOURS[number])
ax.set(
    yscale="log",
    ylabel="weights",
    title="Each convolution has as many weights as pruning left",
)
ax.set_xticks(range(len(layers)), layers)
ax.legend(fontsize=8)
plt.show()

# %% [markdown]
# The last layer is an exception: its outputs are the classes, and those stay ten. In a residual network there is another:
# channels that are added have to agree, so a block's weights can be matched as a whole only.

# %%
coupled = models.build("resnet", width=16, seed=0)
prune.apply(coupled, prune.local_mask(coupled, 0.8))
settings = prune.student_settings(coupled)
left, made = measure.nonzeros(coupled), measure.parameters(models.build(**settings))
claim(
    "The student of a residual network (untrained, pruned to a fifth in every layer) has as many weights as "
    "its pruned teacher, within five percent.",
    f"widths {settings['width']}, inside the blocks {settings['inner']}; non-zeros left {left:,}, "
    f"parameters of the student {made:,}",
    holds=abs(made / left - 1) < 0.05,
)

# %% [markdown]
# ## What is every part worth?
#
# Now the experiment. To compare what students learn *from*, those of one size must have one shape. So the widths of the last
# section are not used here, and **small** has all widths of the teacher, shrunk alike. Three ways to a small network, at two
# sizes:
#
# | student | starts as | gets small by |
# |---|---|---|
# | **small** | fresh weights | few channels from the start |
# | **channels** | the teacher | channels cut out at once, then trained |
# | **masks** | the teacher | weights pruned gradually while training (Zhu & Gupta 2017) |
#
# Each learns in four ways, on the same few images:
#
# | signal | what for |
# |---|---|
# | labels only | the control: no distillation |
# | dense teacher | plain distillation |
# | pruned teacher | the recipe: half of its weights are gone, so that it is still as good as the dense one |
# | trained on | the control for it: the dense teacher, trained as much longer as pruning took |
#
# The fourth is easily forgotten. The pruned teacher has been trained longer than the dense one. Without a dense teacher that
# has been trained as long, that training could be credited to pruning.


# %%
def teachers(seed):
    """Return the three teachers of a seed; they are trained once, then recalled."""
    dense = models.build(**LARGE, seed=seed)
    fit(dense, fashion.train, epochs=FIRST, seed=seed)
    longer, half = copy.deepcopy(dense), copy.deepcopy(dense)
    further = {"epochs": MORE, "lr": 0.05, "seed": seed + 1}
    fit(longer, fashion.train, **further)
    fit(half, fashion.train, sparsity=prune.Gradual(0.5), **further)
    return {"dense teacher": dense, "trained on": longer, "pruned teacher": half}


def judge(seed):
    found = {name: evaluate(t, fashion.val) for name, t in teachers(seed).items()}
    dense = teachers(seed)["dense teacher"]
    return found | {"test": evaluate(dense, fashion.test, final=True)}


staff = run(judge, over=SEEDS)
plots.dots(
    {name: staff[name] for name in ("dense teacher", "pruned teacher", "trained on")},
    xlabel="accuracy on val (%)",
    title=f"The teachers, {SEEDS} of each kind",
)

# %% [markdown]
# Between kinds of students more than one thing differs (their start, their learning rate; channels go at once, masks
# gradually), so compare signals within one kind. All students see as many examples: the few images, equally often. The
# fresh ones have a learning rate of 0.1, those that start as the teacher 0.05, whatever they learn from. Nothing was tuned
# for one signal and not for another.

# %%
SIZES = {"a fifth": 0.8, "a fourteenth": 0.93}
KINDS = ["small", "channels", "masks"]
SIGNALS = ["labels only", "dense teacher", "pruned teacher", "trained on"]


def start(kind, sparsity, teacher, seed):
    """Return a student before training, its constraint, and its learning rate."""
    keep = (
        1 - sparsity
    ) ** 0.5  # this share of the channels has 1 - sparsity of the weights
    if kind == "small":
        width = tuple(round(LARGE["width"] * 2**layer * keep) for layer in range(3))
        return models.build("cnn", width=width, seed=seed + 7), None, 0.1
    if kind == "channels":
        return prune.channels.remove(teacher, one_image, 1 - keep), None, 0.05
    return copy.deepcopy(teacher), prune.Gradual(sparsity), 0.05


def objective_from(signal, seed):
    if signal == "labels only":
        return None
    return Distill(soft_labels(teachers(seed)[signal], few), **kd)


def student_of(seed, kind, size, signal):
    dense = teachers(seed)["dense teacher"]
    student, constraint, lr = start(kind, SIZES[size], dense, seed)
    objective = objective_from(signal, seed)
    fit(
        student,
        few,
        objective=objective,
        sparsity=constraint,
        epochs=EPOCHS,
        lr=lr,
        seed=seed + 2,
    )
    return student


def score(seed, kind, size, signal):
    student = student_of(seed, kind, size, signal)
    return {
        "test": evaluate(student, fashion.test, final=True),
        "nonzeros": measure.nonzeros(student),
    }


grid = {"kind": KINDS, "size": list(SIZES), "signal": SIGNALS}
found = run(score, grid, over=SEEDS)


def tested(kind, size, signal):
    """Accuracy on test of one cell of the table, one number a seed."""
    mine = found[["kind", "size", "signal"]] == [kind, size, signal]
    return found[mine.all(axis=1)].set_index("seed")["test"]


def differ(one, other):
    """The mean difference, seed by seed, with its interval."""
    return interval(one - other, unit="points", signed=True)


# %% [markdown]
# One figure. Every dot is a network, every large mark a mean, every bar its interval over seeds.

# %% tags=["readme"]
fig, axes = plt.subplots(1, 2, figsize=(9.5, 4), sharey=True)
for ax, size in zip(axes, SIZES, strict=True):
    for number, signal in enumerate(SIGNALS):
        for row, kind in enumerate(KINDS):
            x = row + 0.2 * (number - 1.5)
            values, colour = 100 * tested(kind, size, signal), plots.COLOURS[number]
            ax.plot(np.full(len(values), x), values, ".", color=colour, alpha=0.4)
            mean = interval(values)
            ax.plot([x, x], [mean.low, mean.high], color=colour, lw=2)
            ax.plot(
                x,
                mean.mean,
                plots.MARKERS[number],
                color=colour,
                label=signal if row == 0 else None,
            )
    ax.set_xticks(range(3), KINDS)
    ax.set_title(f"{size} of the teacher's weights")
axes[0].set_ylabel("accuracy on test (%)")
axes[1].legend(fontsize=8, loc="lower right")
plt.show()

# %% [markdown]
# And one table: what each signal adds to the labels, in points, paired by seed. Where the interval holds zero, the lesson
# cannot tell.


# %%
def gain(kind, size, signal, over="labels only"):
    return differ(tested(kind, size, signal), tested(kind, size, over))


def short(difference):
    return (
        f"{100 * difference.mean:+.1f} ({100 * difference.low:+.1f} to "
        f"{100 * difference.high:+.1f}), {difference.verdict}"
    )


rows = [
    {
        "student": f"{kind}, {size}",
        **{s: short(gain(kind, size, s)) for s in SIGNALS[1:]},
        "pruned against trained on": short(
            gain(kind, size, "pruned teacher", "trained on")
        ),
    }
    for size in SIZES
    for kind in KINDS
]
plots.table(rows, "student", dict.fromkeys(list(rows[0])[1:], "{}"))

# %% [markdown]
# ### What it says, claim by claim
#
# **Distillation as recovery.** The masked network comes from the teacher. Does it recover better when it also listens to
# the teacher?

# %%
claim(
    "A network pruned to a fifth of its weights recovers better with its dense teacher's soft "
    "labels than with the labels only.",
    gain("masks", "a fifth", "dense teacher"),
    above=0,
)

# %% [markdown]
# Is that more so where more was pruned? It is often said. The difference of the two gains, seed by seed:


# %%
def advantage(size):
    return tested("masks", size, "dense teacher") - tested("masks", size, "labels only")


more = differ(advantage("a fourteenth"), advantage("a fifth"))
finding(
    "Distillation helps recovery more where more was pruned.",
    more,
    said_by="often said",
)

# %% [markdown]
# **The pruned teacher.** Park and No report that a pruned teacher teaches better than a dense one. The fair comparison is
# with the dense teacher that was trained as long. Averaged over all six kinds of students, so that no single one decides:


# %%
def averaged(signal):
    cells = list(itertools.product(KINDS, SIZES))
    return sum(tested(kind, size, signal) for kind, size in cells) / len(cells)


better = differ(averaged("pruned teacher"), averaged("trained on"))
claim(
    "Against a dense teacher that was trained as long, pruning the teacher changes its students by "
    "less than one point, averaged over all.",
    better,
    within=0.01,
)

# %%
finding(
    "A pruned teacher teaches better than a dense one.", better, said_by="Park & No 2022"
)

# %%
against_dense = differ(averaged("pruned teacher"), averaged("dense teacher"))
Markdown(
    "Had you forgotten the control, and compared with the teacher as it was before pruning, you "
    f"would have read **{against_dense}**: {against_dense.verdict}. The control costs as much training as the "
    "pruning did, and nobody knows beforehand whether it is needed."
)

# %% [markdown]
# Why might theirs differ? They argue that a pruned teacher regularises its student. Their networks were far larger, and a
# small teacher after a few epochs may leave less to regularise: that is our guess. And their students had the widths that
# pruning left, ours had not. We measured one corner.
#
# **Together or alone.** Distillation alone is the small student with soft labels. Pruning alone is the masked network with
# labels only. Is the combination at least as good as either? (Masks and small students differ in more than their signal: here
# a whole way is compared with a whole way.)

# %%
table = []
for size in SIZES:
    both = tested("masks", size, "dense teacher")
    alone = {
        "distillation alone": tested("small", size, "dense teacher"),
        "pruning alone": tested("masks", size, "labels only"),
    }
    differences = {name: short(differ(both, other)) for name, other in alone.items()}
    table.append({"masks with soft labels, against": size} | differences)
plots.table(
    table, "masks with soft labels, against", dict.fromkeys(list(table[0])[1:], "{}")
)

# %%
claim(
    "At the smaller size, pruning and distilling the teacher beats distilling into a fresh small "
    "network with as many weights.",
    differ(*(tested(k, "a fourteenth", "dense teacher") for k in ("masks", "small"))),
    above=0,
)

# %% [markdown]
# **Is that fair?** The masked network began as the teacher, and has seen all of the teacher's images. The small one has not:
# it knows them from the soft labels of a thousand only. So here is the same small network, trained on labels only, on all
# images, for as many training examples as teacher and student have seen together. Nobody compressed anything; somebody
# just trained a small network.

# %%
spent = FIRST * len(fashion.train) + EPOCHS * len(few)
SCRATCH = math.ceil(spent / len(fashion.train))  # epochs
Markdown(
    f"Teacher and student saw {spent:,} examples. That is {SCRATCH} epochs of all images, rounded up."
)


# %%
def plainly_trained(seed, size):
    """The small network, with the teacher's data and the whole pipeline's budget."""
    network, _, lr = start("small", SIZES[size], None, seed)
    fit(network, fashion.train, epochs=SCRATCH, lr=lr, seed=seed + 2)
    return network


def from_scratch(seed, size):
    network = plainly_trained(seed, size)
    nonzeros = measure.nonzeros(network)
    return {"test": evaluate(network, fashion.test, final=True), "nonzeros": nonzeros}


def of_size(table, size):
    return table[table["size"] == size].set_index("seed")


scratch = run(from_scratch, {"size": list(SIZES)}, over=SEEDS)
versus = {
    f"{kind}, {size}": differ(
        tested(kind, size, "dense teacher"), of_size(scratch, size)["test"]
    )
    for size in SIZES
    for kind in KINDS
}
plots.table(
    [{"distilled, minus scratch": name, "points": short(d)} for name, d in versus.items()],
    "distilled, minus scratch",
    {"points": "{}"},
)

# %%
weights = {
    f"plainly trained, {size}": of_size(scratch, size)["nonzeros"].mean() for size in SIZES
} | {
    f"{kind}, {size}": of_size(found[found["kind"] == kind], size)["nonzeros"].mean()
    for size in SIZES
    for kind in KINDS
}
plots.table(
    [{"network": name, "non-zeros": count} for name, count in weights.items()],
    "network",
    {"non-zeros": "{:,.0f}"},
)

# %%
wins = {
    verdict: [name for name, d in versus.items() if d.verdict == verdict]
    for verdict in ("higher", "cannot tell", "lower")
}
Markdown(
    "**Found.** Against a small network that was simply trained, on all the images, for the budget of the "
    f"whole pipeline: the compressed network is better for {'; '.join(wins['higher']) or 'none'}. "
    f"It is worse for {'; '.join(wins['lower']) or 'none'}. "
    f"It cannot be told for {'; '.join(wins['cannot tell']) or 'none'}. "
    "All have about as many weights as their rival. A masked network does all of the teacher's arithmetic "
    "besides, since its zeros are multiplied too."
)

# %%
finding(
    "Pruned and distilled to a fifth of the teacher's weights, a network is better than a small one that was "
    "simply trained, on all images, for the whole pipeline's budget.",
    versus["masks, a fifth"],
    said_by="a natural hope",
)

# %%
finding(
    "Pruned and distilled to a fourteenth, too, it is better than a small one that was simply trained like that.",
    versus["masks, a fourteenth"],
    said_by="a natural hope",
)

# %% [markdown]
# ### Does it have to be its own teacher?
#
# A masked network starts as a copy of the dense teacher. Perhaps it only likes to hear what it knows already. The control
# is a teacher that was trained in the same way, and that it has never met: the one of another seed.


# %%
def of_another(seed):
    """Recover a masked network with the soft labels of another seed's teacher."""
    dense = teachers(seed)["dense teacher"]
    stranger = teachers(seed + 1)["dense teacher"]
    student, constraint, lr = start("masks", 0.8, dense, seed)
    objective = Distill(soft_labels(stranger, few), **kd)
    settings = {"epochs": EPOCHS, "lr": lr, "seed": seed + 2}
    fit(student, few, objective=objective, sparsity=constraint, **settings)
    return {"test": evaluate(student, fashion.test, final=True)}


strange = run(of_another, over=SEEDS).set_index("seed")["test"]
difference = differ(tested("masks", "a fifth", "dense teacher"), strange)
words = {
    "higher": "Its own teacher teaches it better.",
    "lower": "The stranger teaches it better.",
    "cannot tell": "No difference shows between its own teacher and a stranger.",
}
Markdown(f"{words[difference.verdict]} Own minus stranger: {difference}.")

# %% [markdown]
# ## Distillation as the pruning criterion
#
# Lesson 03 ranked weights by their size. Another score asks how much the loss would change without the weight: to first order
# by $|w \cdot g|$, where $g$ is the gradient of the loss with respect to $w$. This is the *Taylor* criterion (Molchanov 2019;
# lesson 04 uses it for channels). Which loss? It may as well be the distillation loss. Then a weight matters if without it
# the network would *disagree with the teacher*. And such a score needs no labels at all.

# %% [markdown]
# ### Exercise 3: what the teacher misses
#
# *Difficulty ●●● · 20 minutes · you will have: a pruning criterion that listens to the teacher.*
#
# Lesson 03 asked how large a weight is. Here we ask what it does for being like the teacher. If a weight $w$ becomes
# zero, the loss changes, to first order, by $|w \cdot \partial L / \partial w|$. Let $L$ be the distillation loss
#
# $$L = \mathrm{KL}\big(\mathrm{softmax}(t / T) \,\|\, \mathrm{softmax}(z / T)\big),$$
#
# averaged over the images, where $t$ are the teacher's logits and $z$ those of `layer`, a `torch.nn.Linear`, for
# `inputs`. Return the score of every weight, in the weight's shape and without a graph. The layer stays as it was: its
# `weight.grad` is None before and after. A constant factor before the loss, such as $T^2$, is not looked at: weights
# are only going to be compared with one another.


# %% exercise="kd_importance"
def kd_importance(layer, inputs, teacher_logits, temperature):
    """Return |weight * gradient of the distillation loss|, of the weight's shape."""
    ### BEGIN SOLUTION
    student = F.log_softmax(layer(inputs) / temperature, dim=1)
    teacher = F.softmax(teacher_logits / temperature, dim=1)
    loss = F.kl_div(student, teacher, reduction="batchmean")
    (gradient,) = torch.autograd.grad(loss, layer.weight)
    return (layer.weight * gradient).abs().detach()
    ### END SOLUTION


# %% check="kd_importance" points=3
check.kd_importance(kd_importance)
### BEGIN HIDDEN TESTS
check.grade("kd_importance", kd_importance)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `F.kl_div(a, b)` takes the logarithm of the student's probabilities first, and the teacher's probabilities second.
# </details>
# <details><summary>Hint 2</summary>
#
# `loss.backward()` leaves its gradients in the layer. `torch.autograd.grad(loss, tensor)` gives a tuple with one
# gradient, and leaves nothing behind.
# </details>

# %% [markdown] solution="kd_importance"
# **Why.** The gradient says how steep the loss is, the weight says how far it is to zero: the product is a guess at
# what removing the weight would cost. It is a guess at *first order*, so it holds for a small step better than for the
# whole way. The factor $T^2$ of the course's distillation loss makes all scores larger by the same factor, and leaves
# the ranking as it is. With labels in place of soft targets, and at temperature 1, this would be the ordinary Taylor
# criterion: the teacher makes the only difference.

# %% [markdown]
# What we prune is a copy of the dense teacher. It agrees with that teacher already, so the loss is zero, its lowest value, and
# every gradient is zero too. Another teacher has to speak: we take the one that was trained on.


# %%
asked = few.sample(scale.pick(smoke=100, laptop=500), seed=1)


def ranked(seed, score):
    """Prune a teacher at once by this score; look before and after a short recovery."""
    all_teachers = teachers(seed)
    network = copy.deepcopy(all_teachers["dense teacher"])
    # alpha = 1: from the soft labels only. `fit` would start the objective; here nobody else does.
    taught = Distill(soft_labels(all_teachers["trained on"], few), **(kd | {"alpha": 1}))
    device = next(network.parameters()).device
    taught.start(network, asked, augmented=False, device=device)
    scores = {
        "random": lambda: prune.random(network, seed),
        "magnitude": lambda: prune.magnitude(network),
        "gradient, labels": lambda: prune.gradient(network, asked),
        "gradient, soft labels": lambda: prune.gradient(network, asked, taught),
    }[score]()
    masks = prune.global_mask(network, 0.8, scores)
    prune.apply(network, masks)
    row = {"before": evaluate(network, fashion.val)}
    objective = objective_from("dense teacher", seed)
    short_run = {"epochs": scale.pick(smoke=1, laptop=3), "lr": 0.05, "seed": seed}
    fit(network, few, objective=objective, sparsity=prune.Fixed(masks), **short_run)
    return row | {"after": evaluate(network, fashion.val)}


SCORES = ["random", "magnitude", "gradient, labels", "gradient, soft labels"]
by_score = run(ranked, {"score": SCORES}, over=SEEDS)
fig, axes = plt.subplots(1, 2, figsize=(9.5, 2.8), sharey=True)
for ax, when in zip(axes, ("before", "after"), strict=True):
    groups = {s: by_score.loc[by_score["score"] == s, when] for s in SCORES}
    plots.dots(groups, ax=ax, xlabel="accuracy on val (%)", title=f"{when} recovery")
plt.show()

# %%
signal_worth = {
    when: paired(
        by_score,
        when,
        better={"score": "gradient, soft labels"},
        than={"score": "gradient, labels"},
    )
    for when in ("before", "after")
}
Markdown(
    "Soft labels minus labels, as the criterion: "
    + "; ".join(f"{when} recovery {d} ({d.verdict})" for when, d in signal_worth.items())
    + "."
)

# %%
finding(
    "After a short recovery, a network pruned by what its weights do for agreeing with the teacher is better "
    "than one pruned by their size.",
    paired(
        by_score,
        "after",
        better={"score": "gradient, soft labels"},
        than={"score": "magnitude"},
    ),
    said_by="a natural hope",
)

# %%
finding(
    "The distillation signal knows something about which weights matter: pruned by it, a network is "
    "better than pruned at random, before any recovery.",
    paired(
        by_score,
        "before",
        better={"score": "gradient, soft labels"},
        than={"score": "random"},
    ),
    said_by="this lesson, at first",
)

# %% [markdown]
# That was once a `claim`, which stops the lesson if it does not hold. When we repeated the lesson with seeds from 700, its
# interval reached just below zero (not shown here), so it is now a `finding`, which may come out either way.
#
# And the control for "the *distillation* signal" is not chance, it is the gradient of the plain labels. Read all four results
# together: is the teacher's signal better than that of the labels? Is either better than the size of a weight, which is at
# hand and costs nothing?

# %% [markdown]
# ## In which order?
#
# Prune then distil, distil then prune, or both at once? Every network here starts as a copy of the dense teacher, and after
# that only the thousand images are used. All end with the same number of weights and see the same number of examples. Two
# controls learn from labels only: one prunes all the way, one trains first and prunes then.
#
# Note what the start means for "distil, then prune": the network agrees with its teacher already, so at first the soft labels
# have little to teach it. That is how this order is usually meant all the same: from the teacher, by way of its own soft
# labels, to a pruned network.
#
# As a third stage, each result is also rounded to eight bits a weight; lesson 07 explains how. A recipe can be held to a
# budget: it refuses steps that would exceed it.

# %%
END = 0.92
A, B = EPOCHS // 2, EPOCHS - EPOCHS // 2
slow = {"lr": 0.05}
prepared = [
    recipe.TrainTeacher(LARGE, epochs=FIRST, data=fashion.train),
    recipe.MakeSoftLabels(),
]
ORDERS = {
    "prune, then distil": [
        recipe.PruneTeacher(sparsity=END, epochs=A, **slow),
        recipe.TrainStudent("pruned teacher", epochs=B, **kd, **slow),
    ],
    "distil, then prune": [
        recipe.TrainStudent("teacher", epochs=A, **kd, **slow),
        recipe.PruneStudent(sparsity=END, epochs=B, **slow),
    ],
    "both at once": [
        recipe.TrainStudent(
            "teacher", epochs=EPOCHS, sparsity=prune.Gradual(END), **kd, **slow
        ),
    ],
    "labels, then prune": [
        recipe.TrainStudent("teacher", epochs=A, alpha=0, **slow),
        recipe.PruneStudent(sparsity=END, epochs=B, **slow),
    ],
    "prune only": [
        recipe.TrainStudent(
            "teacher", epochs=EPOCHS, sparsity=prune.Gradual(END), alpha=0, **slow
        ),
    ],
}
budget = FIRST * len(fashion.train) + EPOCHS * len(few)


def pipeline(order):
    steps = [*prepared, *ORDERS[order]]
    return recipe.Recipe(*steps, data=few, val=fashion.val, budget=budget)


print(pipeline("prune, then distil"))


# %%
def in_order(seed, order):
    bench = pipeline(order).run(seed)
    accuracy = evaluate(bench.student, fashion.test, final=True)
    rounded = measure.quantise(bench.student, bits=8)
    return {
        "examples": bench.examples,
        "nonzeros": measure.nonzeros(bench.student),
        "accuracy": accuracy,
        "in 8 bits": evaluate(rounded, fashion.test, final=True),
    }


orders = run(in_order, {"order": list(ORDERS)}, over=SEEDS)

# %% [markdown]
# ### Exercise 4: orders in a table
#
# *Difficulty ●●○ · 15 minutes · you will have: a comparison of orders that is fair in budget and paired by seed.*
#
# `runs` is a list of dictionaries, one a run and in no particular order:
#
# ```python
# {"order": "prune → distil", "seed": 3, "examples": 24_000, "accuracy": 0.871}
# ```
#
# All runs of an order have trained on the same number of examples. Return a dictionary `{order: (examples,
# difference)}`, where `difference` is the mean, over seeds, of the order's accuracy minus that of the order `baseline`
# with the *same seed*. Some runs are missing: only seeds that both orders have count (there is always one). Orders with
# another number of examples than the baseline are not comparable, and stay out. The baseline itself stays in.


# %% exercise="order_table"
def order_table(runs, baseline):
    """Return {order: (examples, mean difference)} for orders of the baseline's budget."""
    ### BEGIN SOLUTION
    examples = {run["order"]: run["examples"] for run in runs}
    accuracy = {(run["order"], run["seed"]): run["accuracy"] for run in runs}
    table = {}
    for order, count in examples.items():
        if count == examples[baseline]:
            both = [
                seed
                for one, seed in accuracy
                if one == order and (baseline, seed) in accuracy
            ]
            differences = [
                accuracy[order, seed] - accuracy[baseline, seed] for seed in both
            ]
            table[order] = (count, sum(differences) / len(both))
    return table
    ### END SOLUTION


# %% check="order_table" points=2
check.order_table(order_table)
### BEGIN HIDDEN TESTS
check.grade("order_table", order_table)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Put the accuracies into a dictionary first, with the pair (order, seed) as key. Then a run is found whatever its place
# in the list.
# </details>
# <details><summary>Hint 2</summary>
#
# For one order: which seeds does it have, and which of these does the baseline have as well? What does the baseline
# get, if it is treated like any other order?
# </details>

# %% [markdown] solution="order_table"
# **Why.** Two runs with the same seed share their initial weights and the order of their images, so most of what is
# luck cancels in their difference. A seed that only one of the two has would bring its luck in again. And an order that
# has trained for longer may be better for that reason alone: leaving it out is the honest way to treat it. The
# baseline's row, zero by construction, shows what everything is compared with.

# %%
summary = [
    {
        "order": order,
        "examples": int(mine["examples"].mean()),
        "non-zeros": int(mine["nonzeros"].mean()),
        "accuracy, test": mine["accuracy"].mean(),
        "in 8 bits": mine["in 8 bits"].mean(),
        "against prune only": "-"
        if order == "prune only"
        else short(
            paired(
                orders, "accuracy", better={"order": order}, than={"order": "prune only"}
            )
        ),
    }
    for order, mine in orders.groupby("order", sort=False)
]
plots.table(
    summary,
    "order",
    {
        "examples": "{:,}",
        "non-zeros": "{:,}",
        "accuracy, test": "{:.1%}",
        "in 8 bits": "{:.1%}",
        "against prune only": "{}",
    },
)

# %%
claim(
    "At one budget, pruning and distilling at once beats pruning only.",
    paired(
        orders, "accuracy", better={"order": "both at once"}, than={"order": "prune only"}
    ),
    above=0,
)

# %%
pairs = [
    ("both at once", "prune, then distil"),
    ("both at once", "distil, then prune"),
    ("prune, then distil", "distil, then prune"),
    ("distil, then prune", "labels, then prune"),
]
lines = []
for a, b in pairs:
    d = paired(orders, "accuracy", better={"order": a}, than={"order": b})
    says = {"higher": f"**{a}** beats {b}", "lower": f"**{b}** beats {a}"}
    lines.append(f"- {says.get(d.verdict, f'{a} and {b} cannot be told apart')}: {d}.")
Markdown("\n".join(lines))

# %% [markdown]
# Think of what is learned *last*. In "distil, then prune" the teacher speaks while nothing has been lost yet, and is silent
# when the wound has to heal. In the other two it is there when it is needed. This is an explanation after the fact. Two
# comparisons bear on it. "Prune, then distil" prunes in as few epochs, so haste alone is not the reason: but it has all epochs
# of its distillation to heal, and "distil, then prune" only the last quarter of its pruning. And the last line above tells
# what the soft labels are worth in that order: its only difference is who spoke before the pruning.

# %% [markdown]
# ## What was found
#
# The students of the labels and of the dense teacher, against bytes (packed, in eight bits a weight) and against arithmetic;
# with them the small network that was simply trained on all the images, and the teacher:

# %%
first = int(found["seed"].min())
cells = itertools.product(KINDS, SIZES, ("labels only", "dense teacher"))
rows_of = [
    exhibits.row(", ".join(c), student_of(first, *c), one_image, tested(*c).mean())
    for c in cells
]
for size in SIZES:
    network, right_answers = plainly_trained(first, size), of_size(scratch, size)["test"]
    name = f"plainly trained, {size}"
    rows_of.append(exhibits.row(name, network, one_image, right_answers.mean()))
dense = teachers(first)["dense teacher"]
rows_of.append(exhibits.row("teacher", dense, one_image, staff["test"].mean()))
points = pd.DataFrame(rows_of)
exhibits.keep("06 together", points)
fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.6), sharey=True)
for ax, cost in zip(axes, ("bytes", "MACs"), strict=True):
    for number, kind in enumerate(KINDS):
        for fill, signal in (("none", "labels only"), ("full", "dense teacher")):
            mine = points[
                points["name"].str.startswith(kind) & points["name"].str.endswith(signal)
            ]
            ax.plot(
                mine[cost],
                100 * mine["accuracy"],
                plots.MARKERS[number] + "-",
                fillstyle=fill,
                color=plots.COLOURS[number],
                label=f"{kind}, {signal}",
            )
    others = {
        "plainly trained": ("x:", "plainly trained, all images"),
        "teacher": ("*", None),
    }
    for begins, (look, label) in others.items():
        mine = points[points["name"].str.startswith(begins)]
        ax.plot(
            mine[cost], 100 * mine["accuracy"], look, color="black", label=label or begins
        )
    ax.set(xscale="log", xlabel=cost)
    ax.minorticks_off()
    ticks = {"bytes": [5_000, 10_000, 20_000, 50_000], "MACs": [100_000, 1_000_000]}[cost]
    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
axes[0].set_ylabel("accuracy on test (%)")
axes[0].set_title("The rival is a network that was simply trained")
axes[1].set_title("Masks cost the teacher's arithmetic")
axes[1].legend(fontsize=7, loc="lower right")
plt.show()

# %%
lower = [r["student"] for r in rows if "lower" in r["dense teacher"]]
higher = [r["student"] for r in rows if "higher" in r["dense teacher"]]
unclear = [r["student"] for r in rows if "cannot tell" in r["dense teacher"]]
Markdown(
    "**In one paragraph.** Soft labels of the dense teacher helped "
    f"{'; '.join(higher) or 'nobody'}, harmed {'; '.join(lower) or 'nobody'}, and made no difference "
    f"that can be told for {'; '.join(unclear) or 'nobody'}. Pruning the teacher before it teaches "
    f"changed its students by {better}. With weights inherited from the teacher (masks), the smaller "
    "size stands at "
    f"{100 * tested('masks', 'a fourteenth', 'dense teacher').mean():.1f} %, "
    "from fresh weights with the same soft labels at "
    f"{100 * tested('small', 'a fourteenth', 'dense teacher').mean():.1f} %."
    f" And against the small network that was simply trained on all the images: better for "
    f"{len(wins['higher'])} of the six kinds, worse for {len(wins['lower'])}, undecided for "
    f"{len(wins['cannot tell'])}."
)

# %% [markdown]
# ## Summary
#
# | way to combine | in code |
# |---|---|
# | distillation heals a pruned network | `fit(pruned, images, objective=Distill(teacher), sparsity=Fixed(masks))` |
# | both at once | `fit(network, images, objective=Distill(teacher), sparsity=Gradual(0.9))` |
# | the pruned network teaches | `soft_labels(pruned_teacher, images)`, made **after** pruning |
# | the student's widths from pruning | `models.build(**prune.student_settings(pruned_teacher))` |
# | distillation chooses what to prune (compare with magnitude first) | `prune.gradient(network, images, objective)` |
#
# - Ask of every step: if I break it, does the end notice?
# - A pruned teacher has been trained longer. Compare it with a dense one that has been, too.
# - Count the examples of everything: teacher, pruning, student. And count what a network inherits.
# - Ask what a small network reaches that is simply trained, on all the data there is. If you have the data, that is the rival.
# - Where no difference shows, the honest result is that none shows.
#
# ## Check yourself
#
# <details><summary>1. In a colleague's pipeline the student of a pruned teacher is half a point better than the student of
# the dense one. Which two controls do you ask for?</summary>
#
# A dense teacher that was trained on for as long as pruning took, and several seeds of teacher and student, with the
# interval of the paired difference.
# </details>
# <details><summary>2. Why can a network not use its own soft labels as the distillation criterion for pruning itself?
# </summary>
#
# It agrees with itself, so the loss is zero, its lowest value, and there all gradients are zero: every weight gets the
# same score.
# </details>
# <details><summary>3. A layer with 3 x 3 kernels has 1,440 weights left, and the student's layer before it makes 10
# channels. How wide is the student's layer?</summary>
#
# 1,440 / (9 · 10) = 16 channels.
# </details>
#
# ## Further reading
#
# - G. Hinton, O. Vinyals, J. Dean. Distilling the knowledge in a neural network. arXiv:1503.02531, 2015.
# - J. Park, A. No. Prune your model before distill it. *ECCV*, 2022. arXiv:2109.14960.
# - M. Zhu, S. Gupta. To prune, or not to prune: exploring the efficacy of pruning for model compression.
#   arXiv:1710.01878, 2017.
# - V. Sanh, T. Wolf, A. Rush. Movement pruning: adaptive sparsity by fine-tuning. *NeurIPS*, 2020. arXiv:2005.07683.
# - P. Molchanov, A. Mallya, S. Tyree, I. Frosio, J. Kautz. Importance estimation for neural network pruning. *CVPR*, 2019.
#   arXiv:1906.10771.
# - A. Polino, R. Pascanu, D. Alistarh. Model compression via distillation and quantization. *ICLR*, 2018.
#   arXiv:1802.05668.
#
# ## What comes next
#
# You have all the tools. Lesson 07 gives you a budget of bytes, arithmetic and time, and a test set that is looked at once.
