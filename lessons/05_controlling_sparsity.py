# %% [markdown]
# # 05 · Controlling sparsity
#
# **Question.** A network shall end with five percent of its weights. When should the others go, which may come back, and
# does it matter what the survivors weigh when they start?
#
# **Answer.** Sparsity can be steered while the network trains, like a learning rate. A schedule says how many weights
# live at each step; a penalty makes the network choose for itself; a pattern keeps the zeros where hardware can use
# them; dynamic training moves the connections about; rewinding looks for a small network that was there from the start.
#
# **Explanation.** Pruning after training asks a finished network to forgive a sudden loss. Here the loss comes in small
# portions, while there is still time to learn. Within each comparison all methods train for the same number of epochs, so
# that what is compared is when and where the zeros come, and not who trained longer. The one exception (learning-rate
# rewinding, section 5) is named where it comes.
#
# **You will be able to**
# - steer sparsity with the cubic schedule, and say when it beats pruning at once;
# - write a 2:4 mask, a step of dynamic sparse training, and a round of rewinding;
# - decide between a large sparse network and a small dense one, price by price.
#
# *About 60 minutes for you, about three and a half minutes for two processor cores. Lessons 03 and 04 come before.*

# %% [markdown]
# ## Code
#
# Sparsity is one argument of `fit`. Whatever the method, this line stays:
#
# ```python
# fit(network, fashion.train, sparsity=prune.Gradual(target=0.95), epochs=6, seed=0)
# ```

# %%
import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown
from torch import nn

from kdlab import check, data, exhibits, measure, models, plots, scale, widgets
from kdlab import pruning as prune
from kdlab.claims import claim, finding
from kdlab.experiments import interval, paired, run, seeds
from kdlab.training import evaluate, fit

plots.use_style()
fashion = data.load()
one_image = fashion.val.images[:1]

WIDE = 16  # the network that is made sparse: a CNN with 24,058 parameters
EPOCHS = scale.pick(smoke=1, laptop=6, full=12)
SEEDS = scale.pick(smoke=2, laptop=5)
steps = EPOCHS * math.ceil(len(fashion.train) / 128)


def train(seed, width=WIDE, sparsity=None):
    """The one budget of this lesson: EPOCHS passes over the training data."""
    network = models.build("cnn", width=width, seed=seed)
    fit(network, fashion.train, sparsity=sparsity, epochs=EPOCHS, seed=seed)
    return network


# %% [markdown]
# Settings are chosen on **val**, with seeds of their own. What is reported is scored on **test**.

# %% [markdown]
# ## 1. When: the cubic schedule
#
# Three ways to reach the same sparsity:

# %%
HIGH = 0.95
ways = {
    "one-shot": prune.OneShot(HIGH, at=0.2),
    "iterative": prune.Iterative(HIGH, rounds=5, start=0.2, end=0.75),
    "cubic": prune.Gradual(HIGH, start=0.2, end=0.75),
}
fig, ax = plt.subplots(figsize=(6.4, 2.8))
for (name, schedule), line in zip(ways.items(), [":", "--", "-"], strict=True):
    percent = 100 * np.arange(steps) / steps
    ax.plot(percent, 100 * np.array(schedule.curve(steps)), line, lw=2, label=name)
ax.set(xlabel="training (%)", ylabel="sparsity (%)")
ax.set_title("At once, in rounds, or along a curve")
ax.legend()
plt.show()

# %% [markdown]
# The cubic schedule prunes fast while much is redundant, and slowly where every weight begins to matter. With $s_i$ the
# initial and $s_f$ the final sparsity, first pruning at step $t_0$ and last at $t_1$ (Zhu & Gupta 2017, equation 1):
#
# $$s_t = s_f + (s_i - s_f)\left(1 - \frac{t - t_0}{t_1 - t_0}\right)^3 \qquad t_0 \le t \le t_1$$
#
# Before $t_0$ the sparsity is $s_i$, after $t_1$ it is $s_f$.

# %% [markdown]
# ### Exercise 1: the cubic schedule
#
# *Difficulty ●○○ · 5 minutes · you will have: sparsity at every step of training.*
#
# Complete `cubic_sparsity`. `first` is $t_0$, `last` is $t_1$, and `step` may lie before, between or after them.


# %% exercise="cubic_sparsity"
def cubic_sparsity(step, first, last, target, initial=0.0):
    """Return the sparsity after `step`, between `initial` and `target`."""
    ### BEGIN SOLUTION
    progress = min(1, max(0, (step - first) / (last - first)))
    return target + (initial - target) * (1 - progress) ** 3
    ### END SOLUTION


# %% check="cubic_sparsity" points=2
check.cubic_sparsity(cubic_sparsity)
### BEGIN HIDDEN TESTS
check.grade("cubic_sparsity", cubic_sparsity)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint</summary>
#
# Compute the progress first, from 0 at `first` to 1 at `last`, and keep it between the two.
# </details>

# %% [markdown] solution="cubic_sparsity"
# **Why.** The slope of $(1-p)^3$ is $-3(1-p)^2$: steep at the start, flat at the end. Half-way through, seven eighths of
# the pruning are done. Clamping the progress takes care of the steps outside the span.

# %% [markdown]
# ### Shape it yourself
#
# The right picture is the one to watch: which part of the *living* weights each pruning takes away. That is the wound
# that training has to heal before the next one.

# %%
widgets.schedule_explorer(steps, target=HIGH)

# %% [markdown]
# ### When should one-shot pruning strike?
#
# The rival deserves its best moment. It is chosen on val at 95 % sparsity, with two seeds of its own, and used at both
# sparsities below (so at the lower one it is not tuned anew); the cubic schedule is taken as it is (from 20 % to 75 % of
# training).


# %%
def strike(seed, at):
    return {"val": evaluate(train(seed, sparsity=prune.OneShot(HIGH, at=at)), fashion.val)}


moments = scale.pick(smoke=[0.2, 0.5], laptop=[0.1, 0.25, 0.5])
trial = run(strike, {"at": moments}, over=scale.pick(smoke=[1000], laptop=[1000, 1001]))
by_moment = trial.groupby("at")["val"].mean()
best_moment = float(by_moment.idxmax())
Markdown(
    "Accuracy on val: "
    + ", ".join(
        f"{value:.1%} after {at:.0%} of training" for at, value in by_moment.items()
    )
    + f". Chosen: **{best_moment:.0%}**."
)

# %% [markdown]
# ### At once or gradually?
#
# Two sparsities: 95 %, and a moderate one at which the wide network has exactly as many non-zeros as a dense one of half
# its width. (We shall need that in section 6.)


# %%
def sparsity_for(width):
    """Sparsity at which the wide network has the non-zeros of a dense one of this width."""
    wide, narrow = (models.build("cnn", width=w) for w in (WIDE, width))
    scored = sum(weight.numel() for weight in prune.weights(wide).values())
    spare = measure.parameters(wide) - scored  # biases and batch norm are never pruned
    return 1 - (measure.parameters(narrow) - spare) / scored


def steering(method, sparsity, seed):
    return {
        "dense": lambda: None,
        "one-shot": lambda: prune.OneShot(sparsity, at=best_moment),
        "gradual": lambda: prune.Gradual(sparsity, start=0.2, end=0.75),
        "dynamic": lambda: prune.Dynamic(sparsity, seed=seed),
        "static": lambda: prune.Dynamic(sparsity, fraction=0.0, seed=seed),
    }[method]()


def spend(seed, method, sparsity=0.0, width=WIDE):
    network = train(seed, width, steering(method, sparsity, seed))
    accuracy = evaluate(network, fashion.test, final=True)
    return {"width": width, "nonzeros": measure.nonzeros(network), "test": accuracy}


MODERATE = sparsity_for(8)
when = run(
    spend,
    [{"method": "dense", "sparsity": 0.0}]
    + [
        {"method": m, "sparsity": s}
        for s in (MODERATE, HIGH)
        for m in ("one-shot", "gradual")
    ],
    over=SEEDS,
)


# %%
def rows_of(table, **chosen):
    for name, value in chosen.items():
        table = table[table[name] == value]
    return table


groups = {"dense": rows_of(when, method="dense")["test"]}
for s in (MODERATE, HIGH):
    for m in ("one-shot", "gradual"):
        groups[f"{m}, {s:.0%}"] = rows_of(when, method=m, sparsity=s)["test"]
plots.dots(
    groups,
    xlabel="accuracy on test (%)",
    title="The same sparsity, reached at once or gradually",
)


# %%
def gradual_gain(sparsity):
    rows = when[when["sparsity"] == sparsity]
    return paired(rows, "test", better={"method": "gradual"}, than={"method": "one-shot"})


claim(
    f"At {HIGH:.0%} sparsity, gradual pruning beats one-shot pruning of the same budget.",
    gradual_gain(HIGH),
    above=0,
)

# %%
finding(
    f"At {MODERATE:.0%} sparsity, too, gradual pruning beats one-shot pruning of the same budget.",
    gradual_gain(MODERATE),
    said_by="a natural guess",
)

# %% [markdown]
# Why? One-shot pruning ranks the weights once, early or late. Early, the ranking is poor; late, little training is left.
# The schedule ranks them again and again, each time with a network that has adapted to the last pruning.

# %% [markdown]
# ## 2. Where: connections that move
#
# Gradual pruning trains a dense network for a good part of the way. **RigL** (Evci 2020) never does. It starts sparse, at
# random. Now and then every layer drops the living weights of least magnitude, and grows as many connections where the
# *gradient* says that one would help.

# %%
dynamic = prune.Dynamic(HIGH)
dynamic.start(models.build("cnn", width=WIDE), steps)
moving = [100 * dynamic.moving(step) for step in range(steps)]
fig, (left, right) = plt.subplots(1, 2, figsize=(7.4, 2.7))
left.plot(percent, 100 - 100 * np.array(ways["cubic"].curve(steps)), label="gradual")
left.axhline(100 * (1 - HIGH), color=plots.COLOURS[1], ls="--", label="dynamic")
left.set(xlabel="training (%)", ylabel="living weights (%)", title="How many live")
left.legend()
at = np.flatnonzero(moving)
right.plot(percent[at], np.array(moving)[at], "s", color=plots.COLOURS[1], ms=4)
right.set(
    xlabel="training (%)", ylabel="of the living weights (%)", title="How many move (RigL)"
)
right.set_ylim(0)
plt.show()

# %%
living_on_average = 1 - np.mean(ways["cubic"].curve(steps))
Markdown(
    f"Averaged over training, gradual pruning keeps {living_on_average:.0%} of the weights "
    f"alive, RigL {1 - HIGH:.0%}. Hardware that gains from zeros would gain throughout."
)

# %% [markdown]
# ### Exercise 2: one step of prune and regrow
#
# *Difficulty ●●○ · 15 minutes · you will have: the heart of dynamic sparse training.*
#
# Complete `prune_and_regrow` for one layer. `mask` is True where a weight lives; dead weights are zero. First drop the
# `count` living weights of smallest magnitude. Then grow `count` connections: of all that do not live after the drop, those
# whose gradient is largest in magnitude. (`gradient` has a value for every weight, dead or alive.) So a connection that has
# just been dropped may come straight back. Return the new mask.


# %% exercise="prune_and_regrow"
def prune_and_regrow(weight, gradient, mask, count):
    """Return the next mask of a layer: as many weights live as before."""
    ### BEGIN SOLUTION
    size = weight.abs().masked_fill(~mask, torch.inf).flatten()
    living = mask.flatten().clone()
    living[size.argsort()[:count]] = False
    pull = gradient.abs().flatten().masked_fill(living, -torch.inf)
    living[pull.argsort(descending=True)[:count]] = True
    return living.reshape(mask.shape)
    ### END SOLUTION


# %% check="prune_and_regrow" points=3
check.prune_and_regrow(prune_and_regrow)
### BEGIN HIDDEN TESTS
check.grade("prune_and_regrow", prune_and_regrow)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `masked_fill(condition, torch.inf)` takes weights out of a race for the smallest; minus infinity takes them out of a
# race for the largest.
# </details>
# <details><summary>Hint 2</summary>
#
# `flatten()` makes one row of all the weights, and `argsort()[:count]` gives the places of the smallest.
# </details>

# %% [markdown] solution="prune_and_regrow"
# **Why.** A living weight shows by its size what it is worth. A dead one is zero, so its size says nothing; but the
# gradient of the loss with respect to it can be computed all the same, and says how fast the loss would fall if it
# lived. The two rulers cannot be exchanged.

# %% [markdown]
# The control is **static** sparse training: it starts with the same random connections as RigL, and they stay where they
# are. Each layer is as sparse as it is with RigL, and the budget is the same.

# %%
where = run(
    spend,
    [{"method": m, "sparsity": HIGH} for m in ("static", "dynamic")],
    over=SEEDS,
)
gradual_high = rows_of(when, method="gradual", sparsity=HIGH)
plots.dots(
    {
        "static": rows_of(where, method="static")["test"],
        "dynamic (RigL)": rows_of(where, method="dynamic")["test"],
        "gradual": gradual_high["test"],
    },
    xlabel="accuracy on test (%)",
    title=f"{HIGH:.0%} sparse: from the start, moving, or in the end",
)

# %%
moved = paired(where, "test", better={"method": "dynamic"}, than={"method": "static"})
from_dense = interval(
    gradual_high["test"].to_numpy() - rows_of(where, method="dynamic")["test"].to_numpy(),
    unit="points",
    signed=True,
)
finding(
    "Sparse from the start, connections that move beat connections that stay.",
    moved,
    said_by="Evci 2020 (RigL)",
)

# %%
finding(
    "Beginning dense and pruning gradually beats beginning sparse and moving the connections.",
    from_dense,
    said_by="a natural guess",
)

# %% [markdown]
# The paper trains for tens of thousands of steps, and finds that RigL gains with longer training; ours are a few hundred.
# A grown connection starts at zero and needs time to become worth something before the next round of dropping. And one
# more thing differs: RigL is told beforehand how sparse each layer shall be (by a rule that keeps small layers denser),
# while gradual pruning compares the weights of all layers. So this is no verdict on RigL, but a reminder that a method
# has a budget at which it works.

# %% [markdown]
# ## 3. Where the hardware wants them: 2:4
#
# Lesson 03 has shown that zeros are not speed: an ordinary matrix product multiplies by them as by anything else. A
# **pattern** changes that. In a 2:4 pattern, of every four weights side by side along the inputs, two are zero. Half of
# the numbers are stored, with two bits each to say which place of the four they come from, and the sparse tensor cores of
# NVIDIA GPUs (from the Ampere generation on) skip the rest (Mishra 2021).

# %%
network = train(seed=seeds(1)[0])
head = {"free": prune.local_mask(network, 0.5), "2:4": prune.pattern_mask(network)}
fig, axes = plt.subplots(2, 1, figsize=(7, 3.4))
for ax, (name, masks) in zip(axes, head.items(), strict=True):
    ax.imshow(masks["head"][:, :48].cpu(), cmap="Blues", vmin=-0.2, vmax=1.2)
    ax.set_xticks(np.arange(-0.5, 48, 4), [])
    ax.set_yticks([])
    ax.grid(axis="x", color="black", lw=0.8)
    ax.set_title(f"{name}: half of the weights live (dark)")
axes[1].set_xlabel("inputs of the last layer, in fours")
plt.show()

# %% [markdown]
# ### Exercise 3: a 2:4 mask
#
# *Difficulty ●●○ · 10 minutes · you will have: the pattern that hardware can use.*
#
# Complete `two_of_four`: for a weight of shape `(outputs, inputs)`, where the inputs are a multiple of four, return a
# boolean mask of the same shape. In each four inputs that lie side by side in a row, the two of largest magnitude live.


# %% exercise="two_of_four"
def two_of_four(weight):
    """Return a boolean mask of a weight (outputs, inputs) with two of every four alive."""
    ### BEGIN SOLUTION
    groups = weight.abs().reshape(-1, 4)
    order = groups.argsort(dim=1, descending=True)
    mask = torch.zeros_like(groups, dtype=torch.bool)
    mask.scatter_(1, order[:, :2], True)
    return mask.reshape(weight.shape)
    ### END SOLUTION


# %% check="two_of_four" points=2
check.two_of_four(two_of_four)
### BEGIN HIDDEN TESTS
check.grade("two_of_four", two_of_four)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `reshape(-1, 4)` gives one row for every group.
# </details>
# <details><summary>Hint 2</summary>
#
# `argsort` says *which* weight is the largest, not which rank a weight has. `scatter_` writes True at those places.
# </details>

# %% [markdown] solution="two_of_four"
# **Why.** A row of a linear layer's weight holds the inputs of one neuron, and that is the direction in which the
# hardware adds up. `reshape` keeps the order of a row, so four columns side by side become one group.

# %% [markdown]
# ### What does the pattern cost?
#
# A pattern has less choice: where three of four weights are large, one of them goes. The comparison is with half of the
# weights of the same layers, chosen freely, and with a 2:4 pattern chosen by chance. Each prunes the dense network of
# section 1 and fine-tunes it for one epoch. (The first convolution has one input channel and stays whole.)


# %%
def half(seed, kind):
    network = train(seed)
    patterned = prune.pattern_mask(network)
    masks = {
        "2:4": lambda: patterned,
        "free": lambda: prune.layer_mask(network, dict.fromkeys(patterned, 0.5)),
        "2:4 at random": lambda: prune.pattern_mask(
            network, scores=prune.random(network, seed)
        ),
    }[kind]()
    prune.apply(network, masks)
    before = evaluate(network, fashion.test, final=True)
    fit(network, fashion.train, sparsity=prune.Fixed(masks), epochs=1, lr=0.05, seed=seed)
    return {"pruned": before, "fine-tuned": evaluate(network, fashion.test, final=True)}


halves = run(half, {"kind": ["free", "2:4", "2:4 at random"]}, over=SEEDS)
halves.groupby("kind", sort=False)[["pruned", "fine-tuned"]].mean().style.format("{:.1%}")

# %%
pattern_price = paired(halves, "fine-tuned", better={"kind": "2:4"}, than={"kind": "free"})
by_magnitude = paired(
    halves, "pruned", better={"kind": "2:4"}, than={"kind": "2:4 at random"}
)
about_pattern = {
    "higher": "The pattern costs nothing here.",
    "lower": "The pattern costs a little.",
    "cannot tell": "We cannot tell whether the pattern costs anything after fine-tuning; the interval says how much at most.",
}
Markdown(
    f"After fine-tuning, 2:4 minus free choice: **{pattern_price.text()}**. "
    f"{about_pattern[pattern_price.verdict]}"
)

# %%
claim(
    "Within the pattern, magnitude chooses better than chance: before fine-tuning, by more "
    "than ten points.",
    by_magnitude,
    above=0.1,
)

# %% [markdown]
# ### What hardware makes of it
#
# The next cell times one large matrix product, dense and 2:4, where there is a GPU that can do it. Elsewhere it says so.


# %%
def time_on_gpu(size=4096):
    if not torch.cuda.is_available():
        return (
            "No NVIDIA GPU here: nothing is timed. A processor has no instructions for 2:4, "
            "it multiplies the zeros."
        )
    gpu = torch.cuda.get_device_name()
    if torch.cuda.get_device_capability() < (8, 0):
        return (
            f"{gpu} has no sparse tensor cores (they came with Ampere): nothing is timed."
        )
    layer = nn.Sequential(nn.Linear(size, size, bias=False)).half().cuda()
    prune.apply(layer, prune.pattern_mask(layer))
    batch = torch.randn(size, size, device="cuda", dtype=torch.half)
    dense = measure.latency(layer, batch)
    packed = torch.sparse.to_sparse_semi_structured(layer[0].weight.detach())
    layer[0].weight = nn.Parameter(packed, requires_grad=False)
    sparse = measure.latency(layer, batch)
    return (
        f"{gpu}, {size} x {size}: dense {dense}, 2:4 {sparse}, "
        f"{dense.median / sparse.median:.2f} times as fast."
    )


Markdown(time_on_gpu())

# %% [markdown]
# The arithmetic units promise a factor of two; whole networks get less, as not every layer is large enough, and reading and
# writing the activations takes as long as before. In half precision the stored weight shrinks to 9/16: half of the values,
# plus two bits for each.

# %% [markdown]
# ## 4. Let the network choose: slimming
#
# Single zeros are hard to use; missing channels are easy (lesson 04). Batch norm multiplies every channel with a scale
# $\gamma$. **Network slimming** (Liu 2017) adds a price on these scales to the loss, so that training itself drives
# channels that are not worth it towards zero:
#
# $$L = \mathrm{CE} + \lambda \sum_c |\gamma_c|$$
#
# Why the absolute value and not the square? The square's pull fades as a scale gets small; the absolute value pulls with
# the same force all the way down.

# %% [markdown]
# The budget is split: two thirds with the penalty, then half of all channels are cut out, one third to fine-tune. The
# scales of all layers are compared with one another, as in the paper. There are two controls without a penalty: one
# compares the scales of all layers in the same way, in the other every layer loses half of its channels ("equal shares").
# (The values of λ were chosen beforehand on val, with a seed that is not used here.)

# %%
SLIM = {
    "no penalty, equal shares": (0.0, "group"),
    "no penalty": (0.0, "global"),
    "λ = 0.015": (0.015, "global"),
    "λ = 0.03": (0.03, "global"),
}


def slim(seed, kind):
    strength, scope = SLIM[kind]
    tune = max(1, EPOCHS // 3)
    network = models.build("cnn", width=WIDE, seed=seed)
    penalty = prune.Slimming(strength=strength) if strength else None
    fit(network, fashion.train, objective=penalty, epochs=max(1, EPOCHS - tune), seed=seed)
    smaller = prune.channels.remove(
        network, one_image, ratio=0.5, rank="bn", scope=scope, min_channels=2
    )
    stages = [evaluate(net, fashion.test, final=True) for net in (network, smaller)]
    fit(smaller, fashion.train, epochs=tune, lr=0.05, seed=seed)
    stages.append(evaluate(smaller, fashion.test, final=True))
    return network, smaller, stages


def slim_row(seed, kind):
    network, smaller, (trained, cut, tuned) = slim(seed, kind)
    scales = [
        gamma.detach().abs().cpu().numpy() for gamma in prune.slimming.scales(network)
    ]
    left = " + ".join(str(len(gamma)) for gamma in prune.slimming.scales(smaller))
    return {"trained": trained, "cut": cut, "tuned": tuned, "scales": scales, "left": left}


slimmed = run(slim_row, {"kind": list(SLIM)}, over=SEEDS)

# %%
fig, axes = plt.subplots(1, 3, figsize=(7.6, 2.6), sharey=True)
for ax, kind in zip(axes, list(SLIM)[1:], strict=True):
    by_layer = rows_of(slimmed, kind=kind)["scales"].iloc[0]
    bins = np.linspace(0, 1.5, 31)
    ax.hist(by_layer, bins, stacked=True, label=["layer 1", "layer 2", "layer 3"])
    ax.set(title=kind, xlabel="batch-norm scale |γ|")
axes[0].set_ylabel("channels")
axes[0].legend(fontsize=8)
plt.show()

# %%
Markdown(
    "Channels left in the three layers (first seed): "
    + "; ".join(f"{kind}: {rows_of(slimmed, kind=kind)['left'].iloc[0]}" for kind in SLIM)
    + "."
)

# %% [markdown]
# Without a penalty the scales of the three layers are not comparable, and a global comparison guts whole layers. The
# penalty does not only make scales small: it makes them *comparable*, because it asks the same price everywhere.

# %%
fig, ax = plt.subplots(figsize=(6.4, 3.2))
for number, kind in enumerate(SLIM):
    by_seed = 100 * rows_of(slimmed, kind=kind)[["trained", "cut", "tuned"]].to_numpy()
    plots.curve(ax, [0, 1, 2], by_seed, kind, number)
ax.set_xticks([0, 1, 2], ["trained", "half the channels cut", "fine-tuned"])
ax.set_ylabel("accuracy on test (%)")
ax.set_title("The crater, and the way out of it")
ax.legend(fontsize=9)
plt.show()

# %%
CHOSEN = "λ = 0.015"
chosen = rows_of(slimmed, kind=CHOSEN)
claim(
    f"The crater: cutting half of the channels costs over ten points, even with {CHOSEN}.",
    interval((chosen["trained"] - chosen["cut"]).to_numpy(), unit="points"),
    above=0.1,
)

# %%
recovery = interval(
    (chosen["tuned"] - chosen["trained"]).to_numpy(), unit="points", signed=True
)
claim(
    "After half of the channels were cut, fine-tuning wins back more than half of what that cost (won back minus half).",
    interval(
        (chosen["tuned"] - chosen["cut"]).to_numpy()
        - (chosen["trained"] - chosen["cut"]).to_numpy() / 2,
        unit="points",
        signed=True,
    ),
    above=0,
)

# %%
Markdown(f"Fine-tuned minus before the cut, both with {CHOSEN}: **{recovery}**.")

# %% [markdown]
# The reference is the penalised network before the cut, and the penalty had already cost accuracy (left end of the figure).
# How much is still missing also depends on the seeds: when we repeated the lesson with others, a limit of three points did
# not always hold. So the claim says only "more than half", and the number is shown without a verdict.


# %%
def slimming_gain(than):
    return paired(slimmed, "tuned", better={"kind": CHOSEN}, than={"kind": than})


against_equal, against_none = (
    slimming_gain("no penalty, equal shares"),
    slimming_gain("no penalty"),
)
finding(
    "Widths that the network has chosen under the penalty are better than equal shares without one.",
    against_equal,
    said_by="Liu 2017 (slimming)",
)

# %%
Markdown(f"{CHOSEN} minus no penalty, both compared globally: **{against_none.text()}**.")

# %% [markdown]
# Look at the figure once more. With λ = 0.015 the crater is about as deep as with equal shares: many scales are small, but
# not yet zero, so the channels still do something when they are cut. With λ = 0.03 there is hardly a crater, but that
# network had already lost accuracy *before* anything was cut: the crater was only dug earlier. The paper's λ is over a
# hundred times smaller, and pulls for hundreds of times as many steps. And where three layers are all there is, equal
# shares are no bad guess: what slimming is for, deep networks whose layers need very different widths, we do not have here.

# %% [markdown]
# ## 5. Lottery tickets
#
# Frankle & Carbin (2019) found something odd. Train a network, prune it, and **rewind** what survives to the weights that
# it had *before* training. That sparse network, a *winning ticket*, can be trained from there as well as the dense one.
# Give the same connections other initial weights, and it cannot. Were the small networks there from the start, by luck?
#
# Rounds of training, pruning and rewinding lead to ever smaller tickets. Each round here removes 60 % of what is left.

# %% [markdown]
# ### Exercise 4: a round of rewinding
#
# *Difficulty ●●○ · 15 minutes · you will have: the next ticket.*
#
# Complete `next_ticket` for one layer. `initial` are the weights before training, `trained` those after training under
# `mask`, in which dead weights are zero. Remove a share of `rate` of the *living* weights: those of smallest magnitude
# after training. Return `(weights, mask)`: the initial weights of the survivors, zero elsewhere, and the new mask. (In the
# tests, `rate` times the number of living weights is a whole number. Here you handle one layer; the cells below compare the
# weights of all layers.)


# %% exercise="next_ticket"
def next_ticket(initial, trained, mask, rate):
    """Return (weights, mask) from which the next round starts."""
    ### BEGIN SOLUTION
    count = round(rate * int(mask.sum()))
    size = trained.abs().masked_fill(~mask, torch.inf).flatten()
    survivors = mask.flatten().clone()
    survivors[size.argsort()[:count]] = False
    survivors = survivors.reshape(mask.shape)
    return initial * survivors, survivors
    ### END SOLUTION


# %% check="next_ticket" points=3
check.next_ticket(next_ticket)
### BEGIN HIDDEN TESTS
check.grade("next_ticket", next_ticket)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Training decides *who* survives, the initial weights decide *how* the survivors start again.
# </details>
# <details><summary>Hint 2</summary>
#
# What died in an earlier round is zero, and must not be counted among the smallest again.
# </details>

# %% [markdown] solution="next_ticket"
# **Why.** The magnitude after training says which connections were used. Rewinding then throws the trained values away:
# what is carried on from round to round is only the mask. So every ticket trains for one budget, and is not credited with
# the training of the rounds before.

# %% [markdown]
# ### Ticket, re-initialised, shuffled, or only the learning rate rewound
#
# On the MLP 300-100, where tickets were found, and on a part of the training images (5,000 on a laptop), because there are
# many trainings. After the dense network, four networks of every size:
#
# - the **ticket**: mask of the rounds, initial weights;
# - **re-initialised**: the same mask, other initial weights;
# - **shuffled**: the same initial weights, and in each layer as many living weights, in random places;
# - **learning rate only** (learning-rate rewinding, Renda 2020): weights are not put back, only the learning rate starts
#   again. This network has trained longer: all rounds together.

# %%
ROUNDS, RATE = scale.pick(smoke=2, laptop=5), 0.6
images = scale.pick(smoke=300, laptop=5000, full=20_000)


def shuffled(mask, seed):
    order = torch.randperm(mask.numel(), generator=torch.Generator().manual_seed(seed))
    return mask.flatten()[order].view(mask.shape)


def lottery(seed):
    part = fashion.train.sample(images, seed=seed)

    def learn(network, sparsity):
        fit(network, part, sparsity=sparsity, epochs=EPOCHS, seed=seed, keep=False)

    def score(network, masks=None):
        if masks:
            learn(network, prune.Fixed(masks))
        return evaluate(network, fashion.test, final=True)

    untrained = models.build("mlp", seed=seed)
    kinds = ("living", "ticket", "re-initialised", "shuffled", "learning rate only")
    found = {kind: [] for kind in kinds}
    for ticket in prune.weight_rewinding(untrained, learn, ROUNDS, RATE):
        found["living"].append(1 - ticket.sparsity)
        found["ticket"].append(score(ticket.model))
        if ticket.round == 0:
            continue
        other = models.build("mlp", seed=seed + 5000)
        found["re-initialised"].append(score(other, ticket.masks))
        elsewhere = {name: shuffled(mask, seed) for name, mask in ticket.masks.items()}
        found["shuffled"].append(score(models.build("mlp", seed=seed), elsewhere))
    for ticket in prune.learning_rate_rewinding(untrained, learn, ROUNDS, RATE):
        found["learning rate only"].append(score(ticket.model))
    return {name: np.array(values) for name, values in found.items()}


tickets = run(lottery, over=SEEDS)

# %%
living = 100 * tickets["living"].iloc[0]
fig, ax = plt.subplots(figsize=(6.4, 3.6))
for number, name in enumerate(
    ["ticket", "re-initialised", "shuffled", "learning rate only"]
):
    by_seed = 100 * np.stack(tickets[name].to_list())
    plots.curve(ax, living[-by_seed.shape[1] :], by_seed, name, number)
ax.set(xscale="log", xlabel="living weights (%)", ylabel="accuracy on test (%)")
ax.set_xticks(living, [f"{share:.3g}" for share in living])
ax.minorticks_off()
ax.invert_xaxis()
ax.set_title("The fewer weights, the more their start matters")
ax.legend()
plt.show()


# %%
def last_round(one, other):
    return interval(
        [a[-1] - b[-1] for a, b in zip(tickets[one], tickets[other], strict=True)],
        unit="points",
        signed=True,
    )


claim(
    f"With {living[-1]:.2g} % of the weights, a ticket beats its mask with other weights.",
    last_round("ticket", "re-initialised"),
    above=0,
)

# %%
claim(
    "The mask alone is worth something, too: with other initial weights it beats a shuffled mask that keeps the "
    "original ones.",
    last_round("re-initialised", "shuffled"),
    above=0,
)

# %%
against_dense = interval(
    [row[-1] - row[0] for row in tickets["ticket"]], unit="points", signed=True
)
rewound = last_round("ticket", "learning rate only")
about_rewinding = {
    "higher": "Going back is even better than going on.",
    "lower": "Going on is better than going back; it has also trained longer.",
    "cannot tell": "We cannot tell whether going back or going on is better.",
}
Markdown(
    f"- Ticket with {living[-1]:.2g} % of the weights minus dense: {against_dense.text()}\n"
    f"- Ticket minus learning-rate rewinding: **{rewound.text()}**. "
    f"{about_rewinding[rewound.verdict]}"
)

# %% [markdown]
# In the figure the ticket stays close to the dense network over most of the way. The smallest one stays a little below it:
# strictly, it is no winning ticket any more. Its lead over the controls is much larger than what it misses.
#
# Is a ticket useful? It is no cheaper way to train: finding it took all the rounds. It is a hint about training: which
# connections there are, and the values from which they start, carry much of what a large network is needed for. In larger
# networks rewinding to the very start fails, and one rewinds to a point early in training (Frankle 2020; the argument
# `rewind_to`). With large learning rates re-initialised networks have been seen to catch up (Liu 2019).

# %% [markdown]
# ## 6. Large and sparse, or small and dense?
#
# Suppose you may keep so many numbers. A wide network of which most weights are zero, or a narrow one without zeros? The
# sparsities are chosen so that both have the same number of non-zeros, biases and batch norm included; both have seen the
# same number of examples.

# %%
NARROW = scale.pick(smoke=[5, 8], laptop=[3, 5, 8])
sizes = run(
    spend,
    [{"method": "dense", "width": w} for w in NARROW]
    + [{"method": "gradual", "sparsity": sparsity_for(w)} for w in NARROW],
    over=SEEDS,
)
sizes["for"] = sizes["nonzeros"].map(
    lambda n: min(
        NARROW, key=lambda w: abs(n - measure.parameters(models.build("cnn", width=w)))
    )
)

# %%
fig, ax = plt.subplots()
for number, (method, name) in enumerate(
    {"dense": "small and dense", "gradual": f"width {WIDE} and sparse"}.items()
):
    by_seed = 100 * rows_of(sizes, method=method).pivot(
        index="seed", columns="for", values="test"
    )
    amounts = [measure.parameters(models.build("cnn", width=w)) for w in NARROW]
    plots.curve(ax, amounts, by_seed.to_numpy(), name, number)
full = 100 * rows_of(when, method="dense")["test"].mean()
ax.axhline(full, color="black", ls=":", label=f"width {WIDE}, dense")
ax.set(xscale="log", xlabel="numbers that are not zero", ylabel="accuracy on test (%)")
ax.set_xticks(
    amounts, [f"{n:,}\n(width {w})" for n, w in zip(amounts, NARROW, strict=True)]
)
ax.minorticks_off()
ax.set_title("The same non-zeros, spent in two ways")
ax.legend()
plt.show()


# %%
def sparse_gain(width):
    rows = sizes[sizes["for"] == width]
    return paired(rows, "test", better={"method": "gradual"}, than={"method": "dense"})


winner = {"higher": "large and sparse wins", "lower": "small and dense wins"}
Markdown(
    "\n".join(
        f"- As width {w} (sparsity {sparsity_for(w):.0%}): {sparse_gain(w).text()}: "
        f"**{winner.get(sparse_gain(w).verdict, 'cannot tell')}**."
        for w in NARROW
    )
)

# %%
claim(
    f"At {sparsity_for(5):.0%} sparsity, large and sparse beats small and dense.",
    sparse_gain(5),
    above=0,
)

# %% [markdown]
# There is an end to it: at the highest sparsity the narrow network wins. A likely reason, which we do not measure here, is
# that whole channels of the wide network are cut off, because a layer that is pruned to a few weights lets little through;
# the narrow network was built to be narrow, and every weight of it is connected.

# %% [markdown]
# ### Which price do you pay?
#
# Equal non-zeros are one way to be fair. Here are the convolutional networks of this lesson against three prices: bytes of
# the compressed file (zeros left out), MACs, and measured time. Dense networks of several widths are the baseline.

# %%
first, batch = seeds(1)[0], fashion.val.images[:64]


def sparse_network(method, sparsity):
    return train(first, sparsity=steering(method, sparsity, first))


EQUAL = "no penalty, equal shares"
dense = {str(w): (train(first, w), rows_of(sizes, method="dense", width=w)) for w in NARROW}
dense[str(WIDE)] = (train(first), rows_of(when, method="dense"))
gradual = {HIGH: gradual_high} | {
    sparsity_for(w): sizes[(sizes["method"] == "gradual") & (sizes["for"] == w)]
    for w in NARROW
}
families = {
    "dense (width)": dense,
    "gradual (sparsity)": {
        f"{s:.0%}": (sparse_network("gradual", s), gradual[s]) for s in sorted(gradual)
    },
    "dynamic": {
        f"RigL {HIGH:.0%}": (
            sparse_network("dynamic", HIGH),
            rows_of(where, method="dynamic"),
        )
    },
    "half the channels": {
        label: (
            slim(first, kind)[1],
            rows_of(slimmed, kind=kind).rename(columns={"tuned": "test"}),
        )
        for label, kind in {"slimmed": CHOSEN, "equal": EQUAL}.items()
    },
}


def price(net):
    seconds = scale.pick(smoke=0.05, laptop=0.5)
    timed = measure.latency(net, batch, seconds=seconds)
    return (
        len(measure.pack(net)) / 1e3,
        measure.macs(net, one_image) / 1e3,
        1e3 * timed.median,
    )


points = {
    family: [
        (name, *price(net), 100 * rows["test"].mean()) for name, (net, rows) in of.items()
    ]
    for family, of in families.items()
}

# %%
labels = ["compressed file (kB)", "thousand MACs an image", "time of 64 images (ms)"]
fig, panels = plt.subplot_mosaic(
    "AA;BC", figsize=(8.4, 7.2), height_ratios=[1.25, 1], sharey=True
)
for ax, column, label in zip(panels.values(), [1, 2, 3], labels, strict=True):
    for number, (family, rows) in enumerate(points.items()):
        x, y = [row[column] for row in rows], [row[4] for row in rows]
        line = "-" if family.startswith(("dense", "gradual")) else ""
        look = {"marker": plots.MARKERS[number], "color": plots.COLOURS[number], "ls": line}
        ax.plot(x, y, label=family, **look)
        side, place = (
            ("right", (-8, 3)) if family.startswith("gradual") else ("left", (7, -12))
        )
        for name, *prices in rows if column == 1 else ():
            spot = (prices[0], prices[3])
            ax.annotate(name, spot, place, textcoords="offset points", fontsize=9, ha=side)
    ax.set(xlabel=label, xlim=(0, None), ylabel="accuracy on test (%)")
    ax.margins(x=0.08)
panels["C"].set_ylabel("")
panels["A"].legend(loc="lower right")
fig.suptitle("What counts as small decides who wins", x=0.01, ha="left", fontsize=11)
plt.show()

# %% [markdown]
# Read it panel by panel. (Prices are those of one network, the first seed's; accuracies are means over the seeds.) By
# bytes, the sparse networks stand left of the wide one, and for moderate sparsities above the dense line; the sparsest fall
# below it. By MACs they stand exactly where the wide network stands, because their zeros are multiplied like anything else.
# By time they gain nothing either. There, only networks with fewer channels move left. But those that were cut after
# training stay below the dense line here: a network that was narrow from the start is better at the same price. (MACs are
# counted as executed here; a paper that counts non-zero MACs only draws another panel.)

# %% [markdown]
# These networks go on show: lesson 07 draws what the course has trained on your machine. For that, all files have eight bits a
# weight, as is explained there.

# %%
shown_later = [
    exhibits.row(f"{family}: {name}", net, one_image, rows["test"].mean())
    for family, of in families.items()
    for name, (net, rows) in of.items()
]
exhibits.keep("05 sparsity", pd.DataFrame(shown_later))

# %% [markdown]
# ## Summary
#
# | method | what is steered | in code |
# |---|---|---|
# | cubic schedule | how many weights live, when | `fit(…, sparsity=Gradual(target))` |
# | dynamic (RigL) | which weights live; their number is fixed | `fit(…, sparsity=Dynamic(target))` |
# | 2:4 pattern | where zeros lie, for hardware | `Fixed(pattern_mask(network))` |
# | slimming | which channels are worth their price | `fit(…, objective=Slimming(strength))`, `channels.remove` |
# | rewinding | from which weights the survivors start | `weight_rewinding(network, train)` |
#
# - *When* matters, most of all at high sparsity: gradual beats at once.
# - With few weights left *where they start* matters: tickets beat re-initialised networks.
# - Where bytes are the price, large and sparse is worth it at moderate sparsity, not at the highest. For time you need
#   fewer channels (a narrow network from the start is hard to beat), or a pattern and a GPU that knows it.
# - Compare at one budget, against a dense network of the same price.
#
# ## Check yourself
#
# <details><summary>1. Half-way through its span, how much of its way has the cubic schedule gone?</summary>
#
# Seven eighths: what is left is a half to the third power.
# </details>
# <details><summary>2. A colleague finds a ticket in ten rounds, without rewinding the weights, and reports that it beats a
# dense network trained for one round. What is wrong?</summary>
#
# The budgets. The ticket has been trained eleven times as long. Either rewind the weights, or train the dense network on,
# too.
# </details>
# <details><summary>3. Why does RigL grow by gradient, and not by magnitude?</summary>
#
# A dead weight is zero, so its magnitude says nothing. Its gradient says how fast the loss would fall if it lived.
# </details>
#
# ## Further reading
#
# - M. Zhu, S. Gupta. To prune, or not to prune: exploring the efficacy of pruning for model compression.
#   arXiv:1710.01878, 2017.
# - U. Evci, T. Gale, J. Menick, P. S. Castro, E. Elsen. Rigging the lottery: making all tickets winners. *ICML*, 2020.
#   arXiv:1911.11134.
# - A. Mishra et al. Accelerating sparse deep neural networks. arXiv:2104.08378, 2021.
# - Z. Liu, J. Li, Z. Shen, G. Huang, S. Yan, C. Zhang. Learning efficient convolutional networks through network slimming.
#   *ICCV*, 2017. arXiv:1708.06519.
# - J. Frankle, M. Carbin. The lottery ticket hypothesis: finding sparse, trainable neural networks. *ICLR*, 2019.
#   arXiv:1803.03635.
# - J. Frankle, G. K. Dziugaite, D. M. Roy, M. Carbin. Linear mode connectivity and the lottery ticket hypothesis. *ICML*,
#   2020. arXiv:1912.05671.
# - A. Renda, J. Frankle, M. Carbin. Comparing rewinding and fine-tuning in neural network pruning. *ICLR*, 2020.
#   arXiv:2003.02389.
# - Z. Liu, M. Sun, T. Zhou, G. Huang, T. Darrell. Rethinking the value of network pruning. *ICLR*, 2019. arXiv:1810.05270.
#
# ## What comes next
#
# You can make a network small in two ways now: let it learn from a larger one (lessons 01 and 02), or take from it what it
# does not need (03 to 05). Lesson 06 puts the two together, and asks in which order.
