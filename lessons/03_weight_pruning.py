# %% [markdown]
# # 03 · Weight pruning
#
# **Question.** Which weights of a trained network can be set to zero, how many, and what is gained by it?
#
# **Answer.** The small ones, and surprisingly many. Weights are compared by their size, the smallest become zero, and a
# short training with the rest repairs what was broken. The network then fits into a much smaller *compressed* file. It
# is no faster: an ordinary computer multiplies by zero as patiently as by anything else.
#
# **Explanation.** A network is trained with more weights than its task needs, because large networks are easy to train.
# Afterwards many weights are near zero and do little. *Unstructured* pruning removes them one by one, wherever they
# are. There are four decisions: what makes a weight unimportant, who competes with whom, how many go, and how the rest
# is trained. Each decision needs a control that shows what it was worth.
#
# **You will be able to**
# - make a magnitude mask for one tensor, and one for a whole network;
# - keep pruned weights at zero while the others learn, whatever the optimiser does;
# - say what pruning saves, what it does not save, and against which dense network it has to be compared.
#
# *About 60 minutes for you, between three and four minutes for two processor cores. Lesson 00 comes before; 01 and 02 are not
# needed.*

# %% [markdown]
# ## Code
#
# In this course pruning is one argument of `fit`. Everything below takes these two lines apart:
#
# ```python
# masks = prune.global_mask(network, 0.8)
# fit(network, fashion.train, sparsity=prune.Fixed(masks), epochs=3, seed=0)
# ```

# %%
import copy
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from IPython.display import Markdown
from torch import nn
from torch.nn.utils import prune as torch_prune

from kdlab import check, data, exhibits, measure, models, plots, scale, widgets
from kdlab import pruning as prune
from kdlab.claims import claim, finding
from kdlab.experiments import interval, paired, run
from kdlab.training import evaluate, fit

plots.use_style()
fashion = data.load()
fashion

# %% [markdown]
# ## Look at the weights first
#
# We need a trained network. This one has three convolutions and a linear layer at the end.

# %%
WIDTH = 32
EPOCHS = scale.pick(smoke=1, laptop=6, full=16)
SEEDS = scale.pick(smoke=2, laptop=5, full=8)


def trained(seed, width=WIDTH, epochs=EPOCHS):
    network = models.build("cnn", width=width, seed=seed)
    fit(network, fashion.train, epochs=epochs, seed=seed)
    return network


network = trained(seed=0)
measure.accuracy(network, fashion.val)

# %% [markdown]
# Pruning scores the weights of convolutions and linear layers. Biases and batch norm are few and matter much, so they
# stay, and they do not count: **sparsity is the number of zeros divided by the number of scored weights.**

# %%
layers = prune.weights(network)
plots.table(
    [
        {"layer": name, "shape": str(tuple(w.shape)), "weights": w.numel()}
        for name, w in layers.items()
    ],
    "layer",
    {"shape": "{}", "weights": "{:,}"},
)

# %%
fig, axes = plt.subplots(1, 4, figsize=(8.4, 2.5))
for ax, (name, weight) in zip(axes, layers.items(), strict=True):
    values = weight.detach().flatten().numpy()
    ax.hist(values, bins=50, color=plots.COLOURS[0])
    ax.set(title=name, xlabel="weight", yticks=[])
fig.suptitle("Most weights are near zero", x=0.01, ha="left", fontsize=11)
plt.show()

# %%
small = {
    name: (w.abs() < w.abs().max() / 10).float().mean().item() for name, w in layers.items()
}
spread = {name: w.std().item() for name, w in layers.items()}
narrowest, widest = min(spread, key=spread.get), max(spread, key=spread.get)
Markdown(
    f"In `{max(small, key=small.get)}`, {max(small.values()):.0%} of the weights are "
    "smaller than a tenth of the "
    f"layer's largest; in `{min(small, key=small.get)}` it is {min(small.values()):.0%}. "
    "The scales differ as well: "
    f"the weights of `{widest}` spread {spread[widest] / spread[narrowest]:.1f} times as "
    "widely as those of "
    f"`{narrowest}`. Remember that: it decides who loses when all layers compete."
)

# %% [markdown]
# ## Prune one tensor
#
# Here is a part of the last convolution, one row a filter, light where a weight is large. Below it, the same weights
# with the smallest four fifths of the layer set to zero.

# %%
last = layers["features.6"].detach()
mask = prune.local_mask(network, 0.8, layers="features.6")["features.6"]
pictures = {"all weights": last.abs(), "the largest fifth": last.abs() * mask}
fig, axes = plt.subplots(2, 1, figsize=(7.4, 3.6))
for ax, (title, picture) in zip(axes, pictures.items(), strict=True):
    ax.imshow(picture.flatten(1)[:48, :216], cmap="cividis", vmax=last.abs().quantile(0.99))
    ax.set(title=title, xlabel="input weight", ylabel="filter")
    ax.grid(False)
plt.show()

# %%
alive = mask.flatten(1)
Markdown(
    f"Rows with nothing left: {int((~alive.any(1)).sum())} of {len(alive)}; columns: "
    f"{int((~alive.any(0)).sum())} of "
    f"{alive.shape[1]}. The zeros are scattered. That will matter when we ask for speed."
)

# %% [markdown]
# In symbols, the mask $m$ of a tensor $w$ with $n$ weights is
#
# $$m_i = \begin{cases} 0 & \text{if } |w_i| \text{ is among the } \mathrm{round}(s\,n) \text{ smallest}\\
# 1 & \text{else,}\end{cases}$$
#
# and the pruned tensor is $m \odot w$ (Han 2015, section 3). $s$ is the sparsity.

# %% [markdown]
# ### Exercise 1: a magnitude mask
#
# *Difficulty ●○○ · 10 minutes · you will have: the rule that most pruning is made of.*
#
# Complete `magnitude_mask`: a boolean tensor of the weight's shape, `True` where a weight lives, `False` for the
# `round(sparsity * number of weights)` of smallest size.


# %% exercise="magnitude_mask"
def magnitude_mask(weight, sparsity):
    """Return a boolean mask of the weight's shape; False for the smallest."""
    ### BEGIN SOLUTION
    count = round(sparsity * weight.numel())
    order = weight.abs().flatten().argsort()
    mask = torch.ones(weight.numel(), dtype=torch.bool)
    mask[order[:count]] = False
    return mask.reshape(weight.shape)
    ### END SOLUTION


# %% check="magnitude_mask" points=2
check.magnitude_mask(magnitude_mask)
### BEGIN HIDDEN TESTS
check.grade("magnitude_mask", magnitude_mask)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `flatten()` makes one list of all weights, `argsort()` says in which places the smallest stand.
# </details>
# <details><summary>Hint 2</summary>
#
# A threshold works too, but mind what happens to the weight that lies exactly on it, and to a sparsity of 0.
# </details>

# %% [markdown] solution="magnitude_mask"
# **Why.** The count is decided first and the threshold follows from it, never the other way round: a threshold that is
# guessed gives a sparsity that nobody asked for. Working with places instead of a threshold also keeps the count exact
# where two weights have the same size.

# %% [markdown]
# ### Which layer can spare most?
#
# Prune one layer, leave the others whole, and look at the accuracy: a **sensitivity scan**. No training is involved.

# %%
grid = scale.pick(smoke=[0.5, 0.9], laptop=[0.5, 0.7, 0.8, 0.9, 0.95])


def pruned_accuracy(network, masks):
    """Accuracy on val of a copy with these masks; the network itself stays dense."""
    return evaluate(prune.apply(copy.deepcopy(network), masks), fashion.val)


def scan(seed):
    network = trained(seed)
    whole = evaluate(network, fashion.val)
    return {
        (name, s): whole - pruned_accuracy(network, prune.layer_mask(network, {name: s}))
        for name in prune.weights(network)
        for s in grid
    }


scanned = run(scan, over=SEEDS)

# %%
fig, ax = plt.subplots(figsize=(6.4, 3.2))
for number, name in enumerate(layers):
    lost = [100 * scanned[(name, s)] for s in grid]
    label = f"{name} ({layers[name].numel():,} weights)"
    plots.curve(ax, [100 * s for s in grid], np.transpose(lost), label, number)
ax.set(xlabel="sparsity of this layer alone (%)", ylabel="accuracy lost on val (points)")
ax.set_title("Layers differ in what they can spare")
ax.legend()
plt.show()

# %%
at = grid[-1]
losses = {name: scanned[(name, at)].mean() for name in layers}
first, sturdy = max(losses, key=losses.get), min(losses, key=losses.get)
Markdown(
    f"At {at:.0%}, pruning `{first}` alone costs {100 * losses[first]:.1f} points and "
    f"pruning `{sturdy}` alone "
    f"{100 * losses[sturdy]:.1f}. `{first}` holds "
    f"{layers[first].numel() / sum(w.numel() for w in layers.values()):.1%} "
    "of all weights."
)

# %% [markdown]
# So a rule that takes the same share from every layer spends its damage badly. One could choose a sparsity for every
# layer from this figure by hand. There is a rule that needs no choosing.

# %% [markdown]
# ## Who competes with whom?
#
# - **layer-wise** (local): every layer loses its own smallest $s\,n_l$ weights;
# - **global**: all weights of the network compete, and one threshold holds for all layers;
# - **random**: weights are drawn by lot. Nobody would use it. It is the **control**: whatever a rule is worth, it is
#   worth in comparison with the lot.

# %% [markdown]
# ### Exercise 2: one threshold for all layers
#
# *Difficulty ●●○ · 15 minutes · you will have: global pruning.*
#
# Complete `global_masks`: `weights` is a list of tensors of any shapes. Return a list of boolean masks, one for each, of
# the same shapes. Over all tensors together, the `round(sparsity * number of all weights)` smallest are `False`.


# %% exercise="global_masks"
def global_masks(weights, sparsity):
    """Return one boolean mask a tensor; all weights compete with one another."""
    ### BEGIN SOLUTION
    sizes = torch.cat([weight.abs().flatten() for weight in weights])
    count = round(sparsity * len(sizes))
    threshold = sizes.sort().values[count - 1] if count else -1
    return [weight.abs() > threshold for weight in weights]
    ### END SOLUTION


# %% check="global_masks" points=3
check.global_masks(global_masks)
### BEGIN HIDDEN TESTS
check.grade("global_masks", global_masks)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `torch.cat` makes one long list of the sizes of all weights. Where in the sorted list is the last weight that goes?
# </details>
# <details><summary>Hint 2</summary>
#
# With a sparsity of 0 nothing goes, and there is no last one.
# </details>

# %% [markdown] solution="global_masks"
# **Why.** One threshold, found once, used in every layer. A layer whose weights are small as a whole loses more of them.
# Taken to an extreme it loses all of them, and nothing gets through it any more (*layer collapse*). The library's
# `global_mask` therefore leaves every layer its largest weight.

# %% [markdown]
# Before you go on, write down a guess: at a sparsity of 50 %, with no training afterwards, how accurate is the network
# under each of the three rules?

# %%
rules = {
    "global": lambda network, s, seed: prune.global_mask(network, s),
    "layer-wise": lambda network, s, seed: prune.local_mask(network, s),
    "random": lambda network, s, seed: prune.global_mask(
        network, s, prune.random(network, seed)
    ),
}
amounts = scale.pick(smoke=[0.2, 0.5, 0.8], laptop=[0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])


def untrained(seed, rule):
    network = trained(seed)
    return {
        s: pruned_accuracy(network, rules[rule](network, s, seed) if s else {})
        for s in [0.0, *amounts]
    }


before = run(untrained, {"rule": list(rules)}, over=SEEDS)

# %%
fig, ax = plt.subplots(figsize=(6.4, 3.2))
for number, rule in enumerate(rules):
    of_rule = 100 * before[before["rule"] == rule][[0.0, *amounts]]
    plots.curve(ax, [100 * s for s in of_rule.columns], of_rule, rule, number)
ax.axhline(10, color="black", ls=":", label="guessing")
ax.set(xlabel="sparsity (%)", ylabel="accuracy on val (%)")
ax.set_title("Pruned and not trained again: the rule decides")
ax.legend()
plt.show()


# %%
def at_half(better, than):
    return paired(before, 0.5, better={"rule": better}, than={"rule": than})


means = before.groupby("rule")[0.5].mean()
Markdown("At 50 %: " + ", ".join(f"{rule} {means[rule]:.1%}" for rule in rules) + ".")

# %%
claim(
    "At 50 %, before any training, global pruning beats layer-wise pruning.",
    at_half("global", "layer-wise"),
    above=0,
)

# %%
claim(
    "At 50 %, before any training, layer-wise pruning beats pruning at random.",
    at_half("layer-wise", "random"),
    above=0,
)

# %% [markdown]
# Where does the global rule cut? It takes the network's sparsity as a total, and each layer gets what its weights
# deserve:

# %%
shares = {
    name: 1 - m.float().mean().item() for name, m in prune.global_mask(network, 0.8).items()
}
fig, ax = plt.subplots(figsize=(6.4, 2.2))
ax.barh(list(shares), [100 * s for s in shares.values()], color=plots.COLOURS[0])
ax.axvline(80, color="black", ls="--")
ax.invert_yaxis()
ax.set(xlabel="zeros in this layer (%)", xlim=(0, 100))
ax.set_title("One threshold, 80 % over all: what each layer loses")
plt.show()

# %%
hardest_hit = max(shares, key=shares.get)
fate = "loses less than its share" if shares[first] < 0.8 else "loses its share or more"
Markdown(
    f"`{first}`, which the scan found most sensitive, {fate}: {shares[first]:.0%}. "
    f"`{hardest_hit}`, the hardest hit, loses {shares[hardest_hit]:.0%}. The rule knows "
    "nothing of accuracy. It sees sizes only."
)

# %% [markdown]
# ## Train what is left
#
# Pruning breaks the network, training repairs it. But an optimiser knows nothing of masks. Here the network is trained
# for a few steps, pruned to 80 % in the middle, and trained on, in three ways: the mask is applied **once**; the
# **gradients** are masked in every step; the **weights** are masked after every step.


# %%
STEPS = scale.pick(smoke=5, laptop=20)


def zeros_while_training(keep):
    trial = copy.deepcopy(network).train()
    optimizer = torch.optim.SGD(
        trial.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4
    )
    masks, sparsities = {}, []
    for step in range(2 * STEPS):
        if step == STEPS:
            masks = prune.global_mask(trial, 0.8)
            prune.apply(trial, masks)
            sparsities.append(prune.sparsity_of(trial))
        batch = fashion.train.batch(
            torch.arange(128 * step, 128 * step + 128) % len(fashion.train)
        )
        optimizer.zero_grad()
        F.cross_entropy(trial(batch.images), batch.labels).backward()
        if masks and keep == "gradients":
            for name, weight in prune.weights(trial).items():
                weight.grad *= masks[name]
        optimizer.step()
        if masks and keep == "weights":
            prune.apply(trial, masks)
        sparsities += [prune.sparsity_of(trial)] if masks else []
    return sparsities


fig, ax = plt.subplots(figsize=(6.4, 2.8))
kept = {keep: zeros_while_training(keep) for keep in ("weights", "gradients", "once")}
names = {
    "weights": "weights masked",
    "gradients": "gradients masked",
    "once": "masked once",
}
for number, (keep, sparsities) in enumerate(kept.items()):
    ax.plot(
        100 * np.array(sparsities),
        label=names[keep],
        marker=plots.MARKERS[number],
        ms=4,
        color=plots.COLOURS[number],
        ls="--" if keep == "once" else "-",
    )
ax.set(xlabel="steps after pruning", ylabel="zeros (%)", ylim=(-5, 100))
ax.set_xticks(range(0, STEPS + 1, 5))
ax.set_title("Zeros do not stay by themselves")
ax.legend()
plt.show()

# %%
Markdown(
    f"One step after pruning, {kept['once'][1]:.0%} of the weights are zero if the mask "
    "was applied once, "
    f"{kept['gradients'][1]:.0%} if the gradients are masked, {kept['weights'][1]:.0%} "
    "if the weights are."
)

# %% [markdown]
# Masked gradients do not help because the optimiser adds two things of its own. **Momentum** carries the movement of
# earlier steps on, also where the gradient is now zero. And **weight decay** pulls at whatever is not zero, so what
# momentum has revived goes on moving. With Adam it is the same: it moves a weight by its running mean.

# %% [markdown]
# ### Exercise 3: keep the mask
#
# *Difficulty ●●○ · 15 minutes · you will have: training that respects a mask, with any optimiser.*
#
# Complete `sparse_steps`: train `layer` for `steps` steps so that `layer.weight` is exactly zero wherever `mask` is
# False, after each step. `backward()` computes the loss and *adds* its gradients to those that are there. The layer
# comes already pruned; its optimiser has momentum from before. The bias is not masked.


# %% exercise="sparse_steps"
def sparse_steps(layer, mask, optimizer, backward, steps):
    """Train for some steps; pruned weights stay at zero, the others learn."""
    ### BEGIN SOLUTION
    for _ in range(steps):
        optimizer.zero_grad()
        backward()
        optimizer.step()
        with torch.no_grad():
            layer.weight.mul_(mask)
    ### END SOLUTION


# %% check="sparse_steps" points=3
check.sparse_steps(sparse_steps)
### BEGIN HIDDEN TESTS
check.grade("sparse_steps", sparse_steps)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Who writes to the weights last in a step? The mask has to come after that.
# </details>
# <details><summary>Hint 2</summary>
#
# A parameter may be changed in place under `torch.no_grad()`. Giving the layer a *new* parameter instead would leave
# the optimiser with the old one.
# </details>

# %% [markdown] solution="sparse_steps"
# **Why.** The multiplication comes after everything that the optimiser does, so it need not know how the optimiser
# works. The momentum of a dead weight goes on existing, and does no harm: whatever it adds is set to zero before
# anybody looks.

# %% [markdown]
# This is all that `prune.Fixed(masks)` does: `fit` calls it after every step. The network itself stays an ordinary one,
# with ordinary weights, some of which are zero.

# %%
TUNE = scale.pick(smoke=1, laptop=3, full=6)
masks = prune.global_mask(network, 0.8)
tuned = copy.deepcopy(network)
fit(tuned, fashion.train, sparsity=prune.Fixed(masks), epochs=TUNE, seed=0)

# %%
Markdown(
    f"Dense: {evaluate(network, fashion.val):.1%}. Pruned to 80 %: "
    f"{pruned_accuracy(network, masks):.1%}. After "
    f"{TUNE} more epoch{'s' if TUNE > 1 else ''}: {evaluate(tuned, fashion.val):.1%}, with "
    f"{prune.sparsity_of(tuned):.1%} zeros. This is one seed."
)

# %% [markdown]
# ## How many can go?
#
# Now the experiment. Dense networks are pruned to several sparsities and trained on for a few epochs, with the same
# peak of the learning rate that trained them. Two controls get exactly the same training:
#
# - **random**: the same number of weights, drawn by lot;
# - **dense**: nothing is pruned. More training alone may help or hurt, and that must not be credited to pruning.
#
# Besides, the 95 % are also reached **iteratively**: a part before each epoch instead of all at once, in the same number
# of epochs. Nothing below was chosen by looking at test data, and this is the lesson's final report: test.

# %%
levels = [0.8, 0.9, 0.95, 0.98]
by_lot = [0.8, 0.95]
ROUNDS = TUNE  # iterative: a part before each epoch


def constraint(kind, sparsity, seed):
    if kind == "dense":
        return None
    if kind == "iterative":
        return prune.Iterative(sparsity, rounds=ROUNDS, end=(ROUNDS - 1) / ROUNDS)
    return prune.OneShot(sparsity, score=kind, seed=seed)


def fine_tuned(seed, kind, sparsity):
    network = trained(seed)
    fit(
        network,
        fashion.train,
        sparsity=constraint(kind, sparsity, seed),
        epochs=TUNE,
        seed=seed,
    )
    return {
        "val": evaluate(network, fashion.val),
        "test": evaluate(network, fashion.test, final=True),
        "packed": len(measure.pack(network)),
        "file": measure.bytes_on_disk(network),
        "network": network,
    }


settings = [{"kind": "dense", "sparsity": 0.0}]
settings += [{"kind": "magnitude", "sparsity": s} for s in levels]
settings += [{"kind": "random", "sparsity": s} for s in by_lot]
settings += [{"kind": "iterative", "sparsity": 0.95}]
results = run(fine_tuned, settings, over=SEEDS)

# %%
fig, ax = plt.subplots()
for number, kind in enumerate(["magnitude", "random"]):
    rows = results[results["kind"].isin([kind, "dense"])]
    by_seed = 100 * rows.pivot(index="seed", columns="sparsity", values="test")
    left = 100 * (1 - by_seed.columns)
    plots.curve(ax, left, by_seed.to_numpy(), kind, number)
dense = 100 * results.loc[results["kind"] == "dense", "test"]
ax.axhline(dense.mean(), color="black", ls=":", label="dense, trained as long")
ax.set(xscale="log", xlabel="weights left (%)", ylabel="accuracy on test (%)")
ax.invert_xaxis()
ticks = [100, 20, 10, 5, 2]
ax.set_xticks(ticks, map(str, ticks))
ax.minorticks_off()
ax.set_title("Most weights go for nothing, and then comes the cliff")
ax.legend()
plt.show()


# %%
def against(sparsity, kind="magnitude", than=("dense", 0.0)):
    return paired(
        results,
        "test",
        better={"kind": kind, "sparsity": sparsity},
        than={"kind": than[0], "sparsity": than[1]},
    )


Markdown(
    "Pruned by magnitude, minus dense and trained as long:\n\n"
    + "\n".join(f"- {s:.0%}: {against(s).text()}" for s in levels)
)

# %%
claim(
    "80 % of the weights go for next to nothing: the loss against the dense network, "
    "trained as long, is below a point.",
    against(0.8),
    above=-0.01,
)

# %%
claim(
    "Which 80 % go matters: drawn by lot, they cost more than two points more.",
    against(0.8, than=("random", 0.8)),
    above=0.02,
)


# %%
def loss_between(more, less):
    """Accuracy lost from one sparsity to a higher one, seed by seed."""
    wide = results[results["kind"].isin(["magnitude", "dense"])].pivot(
        index="seed", columns="sparsity", values="test"
    )
    return wide[less] - wide[more]


cliff = loss_between(0.98, 0.9) - loss_between(0.9, 0.0)
claim(
    "The cliff comes past 90 %: the way from 90 to 98 % costs more than the whole way "
    "from 0 to 90 %.",
    interval(cliff, unit="points", signed=True),
    above=0,
)

# %% [markdown]
# ### At once, or in rounds?
#
# Pruning in rounds lets the network adapt before more is taken (Han 2015, section 3.3). It is often reported to be much
# better. Often, too, each round brings epochs of its own, so that the iterative network was simply trained for longer.
# Here both had the same number of epochs.

# %%
rounds = against(0.95, kind="iterative", than=("magnitude", 0.95))
finding(
    "At 95 %, pruning in rounds beats pruning at once, even with the same number of epochs.",
    rounds,
    said_by="often reported, where rounds bring epochs of their own",
)

# %% [markdown]
# What decides is how much training follows the last cut. In rounds, the last part goes when little training is left, and at
# a learning rate that has already fallen. Lesson 05 takes this up: there the sparsity rises smoothly, and the training is
# long enough to follow it.

# %% [markdown]
# ### Move it yourself
#
# The weights of our network, and the accuracies measured above (on val, means over the seeds). The slider computes
# nothing: it looks up what was measured.

# %%
pruned_only = before[before["rule"] == "global"][[0.0, *amounts]].mean()
with_training = (
    results[results["kind"].isin(["magnitude", "dense"])].groupby("sparsity")["val"].mean()
)
by_lot_only = results[results["kind"] == "random"].groupby("sparsity")["val"].mean()
widgets.sparsity_explorer(
    network,
    {
        "pruned": pruned_only.to_dict(),
        "pruned and trained": with_training.to_dict(),
        "drawn by lot and trained": by_lot_only.to_dict(),
    },
    sparsity=0.8,
)

# %% [markdown]
# ## What `torch.nn.utils.prune` does
#
# PyTorch comes with a pruning module. It is no longer developed, but it is everywhere in public code, so one has to be
# able to read it. It keeps the dense weight under another name, stores a mask beside it, and multiplies the two before
# every forward pass:

# %%
layer = nn.Linear(10, 10, bias=False)
torch_prune.l1_unstructured(layer, "weight", amount=0.5)
list(layer.state_dict()), type(layer.weight).__name__

# %% [markdown]
# Three traps follow from that. **One**: the second call takes its share of what the first has left.

# %%
torch_prune.l1_unstructured(layer, "weight", amount=0.5)
f"half, and then half again: {(layer.weight == 0).float().mean():.0%} zeros"

# %% [markdown]
# **Two**: the keys change, so that an ordinary network cannot load what was saved. **Three**: `remove` sounds like an
# undo. It removes the *mask*, and makes the zeros permanent.

# %%
try:
    nn.Linear(10, 10, bias=False).load_state_dict(layer.state_dict())
except RuntimeError as error:
    print(str(error).replace("\n\t", "\n")[:150])
torch_prune.remove(layer, "weight")
f"after remove: {list(layer.state_dict())}, {(layer.weight == 0).float().mean():.0%} zeros"

# %% [markdown]
# ### Exercise 4: spot the bug
#
# *Difficulty ●●● · 15 minutes · you will have: an eye for all three.*
#
# `two_rounds` should prune a layer by magnitude in two rounds, so that first a share `first`, then a share `second` of
# **all** its weights is zero; it should return the sparse state with the ordinary keys `weight` and `bias`, for an
# ordinary layer to load; and it should leave the layer as dense and as ordinary as it came. It contains **three**
# mistakes. (`0 < first < second < 1`.)


# %% exercise="two_rounds" bug=true
def two_rounds(layer, first, second):
    """Return the state at sparsity `second`, reached by way of `first`."""
    ### BEGIN STUB
    # torch_prune.l1_unstructured(layer, "weight", amount=first)
    # torch_prune.l1_unstructured(layer, "weight", amount=second)
    # sparse = copy.deepcopy(layer.state_dict())
    # torch_prune.remove(layer, "weight")
    # return sparse
    ### END STUB
    ### BEGIN SOLUTION
    dense = copy.deepcopy(layer.state_dict())
    torch_prune.l1_unstructured(layer, "weight", amount=first)
    torch_prune.l1_unstructured(layer, "weight", amount=(second - first) / (1 - first))
    torch_prune.remove(layer, "weight")
    sparse = copy.deepcopy(layer.state_dict())
    layer.load_state_dict(dense)
    return sparse
    ### END SOLUTION


# %% check="two_rounds" points=3
check.two_rounds(two_rounds)
### BEGIN HIDDEN TESTS
check.grade("two_rounds", two_rounds)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# After the first round a share of `1 - first` is left. Which part of it has to go?
# </details>
# <details><summary>Hint 2</summary>
#
# Print `list(layer.state_dict())` after each line. And ask where the dense weights are when everything is over.
# </details>

# %% [markdown] solution="two_rounds"
# **Why.** Of the share $1 - f$ that is left, $s - f$ has to go. The state is taken when the mask is gone, so that its
# keys are the ordinary ones, and it is copied, because a state dictionary shares its memory with the layer. What was
# pruned comes back only if somebody kept it. The library's constraint keeps masks outside of the network, so none of
# these three can happen.

# %% [markdown]
# ## What zeros do not buy
#
# Nine tenths of the weights are zero. What has become smaller?

# %%
one_image = fashion.val.images[:1]
examples = {
    "dense": results[results["kind"] == "dense"].iloc[0]["network"],
    "90 % zeros": results[
        (results["kind"] == "magnitude") & (results["sparsity"] == 0.9)
    ].iloc[0]["network"],
}
bill = [
    {"network": name, **measure.prices(net, fashion.val)} for name, net in examples.items()
]
plots.table(
    bill,
    "network",
    {
        "parameters": "{:,}",
        "nonzeros": "{:,}",
        "bytes": "{:,}",
        "packed bytes": "{:,}",
        "MACs": "{:,}",
        "latency µs": "{:,.0f}",
    },
)


# %% [markdown]
# **Time.** Both are timed many times in turn, so that a busy moment of the machine meets both.


# %%
def timed_in_turn(networks, turns):
    """Microseconds a prediction, one row a turn; in each turn every network has its go."""
    seconds = scale.pick(smoke=0.02, laptop=0.06)
    rows = [
        {
            name: 1e6 * measure.latency(net, one_image, seconds=seconds).median
            for name, net in networks.items()
        }
        for _ in range(turns)
    ]
    return pd.DataFrame(rows)


timed = timed_in_turn(examples, turns=scale.pick(smoke=2, laptop=12))
claim(
    "Zeros are not speed: with 90 % zeros a prediction still takes more than four fifths "
    "of the time.",
    interval(timed["90 % zeros"] / timed["dense"], unit="of the dense time", of="turns"),
    above=0.8,
)

# %% [markdown]
# **Bytes.** An ordinary file writes every zero down with its four bytes. Only a file that knows about zeros is smaller:
# `measure.pack` notes for every place one bit, zero or not, then the numbers that are not zero, and compresses the
# whole. What comes out of `measure.unpack` is the same network, to the last bit.

# %%
dense_file = bill[0]["bytes"]
claim(
    "Zeros are not smaller files: the ordinary file of the sparse network has as many "
    "bytes as that of the dense one.",
    f"dense {dense_file:,} bytes, with 90 % zeros {bill[1]['bytes']:,} bytes",
    holds=dense_file == bill[1]["bytes"],
)

# %%
sparse_rows = results[(results["kind"] == "magnitude") & (results["sparsity"] == 0.9)]
claim(
    "Compressed as a sparse network, 90 % zeros fit into less than a fifth of the dense "
    "file.",
    interval(100 * sparse_rows["packed"] / sparse_rows["file"], unit="% of the dense file"),
    below=20,
)

# %%
compressed = 100 * bill[0]["packed bytes"] / bill[0]["bytes"]
Markdown(
    "Compression alone is not what does it: the dense network, packed in the same way, "
    f"still has {compressed:.0f} % of "
    "its size, because the digits of trained weights look like noise."
)

# %% [markdown]
# ### When are zeros speed?
#
# When the computer is told about them, and there are enough. Here is the product of a matrix of 300 x 784 numbers (the
# first layer of the MLP) with 32 images, stored in the ordinary way and in a sparse format that lists the non-zeros row
# by row (CSR).


# %%
class Product(nn.Module):
    """A linear layer without a bias, for 32 images at once."""

    def __init__(self, matrix):
        super().__init__()
        self.register_buffer("matrix", matrix)

    def forward(self, images):
        return self.matrix @ images


warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
first_layer, batch = nn.Linear(784, 300), torch.ones(784, 32)
tried = [0.5, 0.8, 0.9, 0.95, 0.98, 0.99]
times = {"ordinary": [], "sparse": []}
for s in tried:
    holder = nn.Sequential(copy.deepcopy(first_layer))
    pruned = prune.apply(holder, prune.global_mask(holder, s))[0].weight.detach()
    times["ordinary"].append(measure.latency(Product(pruned), batch).median)
    times["sparse"].append(measure.latency(Product(pruned.to_sparse_csr()), batch).median)

fig, ax = plt.subplots(figsize=(6.4, 2.8))
for number, (kind, values) in enumerate(times.items()):
    plots.curve(ax, [100 * (1 - s) for s in tried], [1e6 * np.array(values)], kind, number)
ax.set(xscale="log", xlabel="weights left (%)", ylabel="time (µs)", ylim=(0, None))
ax.invert_xaxis()
ax.set_xticks([100 * (1 - s) for s in tried], [f"{100 * (1 - s):.0f}" for s in tried])
ax.minorticks_off()
ax.set_title("A sparse format has to earn its overhead")
ax.legend()
plt.show()

# %%
wins = [
    s for s, a, b in zip(tried, times["ordinary"], times["sparse"], strict=True) if b < a
]
Markdown(
    (
        f"On this machine the sparse format is faster from {min(wins):.0%} zeros on."
        if wins
        else "On this machine the sparse format is never faster, up to 99 % zeros."
    )
    + " And that is a matrix product of a linear layer; torch has no sparse convolution "
    "for ordinary pictures. Lesson 04 "
    "removes whole channels instead, and then every program is faster. Lesson 05 looks "
    "at patterns that hardware knows."
)

# %% [markdown]
# ## The honest comparison
#
# A pruned network must not be compared with the large network alone. The question is: **is it better than a small dense
# network of the same price?** So here are dense networks of several widths, each trained in one go for as many epochs
# as dense training and fine-tuning took together.

# %%
widths = scale.pick(smoke=[4, 8], laptop=[8, 12, 16])


def small_dense(seed, width):
    network = trained(seed, width, epochs=EPOCHS + TUNE)
    return {
        "test": evaluate(network, fashion.test, final=True),
        "packed": len(measure.pack(network)),
        "network": network,
    }


narrow = run(small_dense, {"width": widths}, over=SEEDS)
narrow["name"] = "width " + narrow["width"].astype(str)
results["name"] = results["kind"] + " " + (100 * results["sparsity"]).map("{:.0f} %".format)
everything = pd.concat(
    [narrow.assign(family="dense"), results.assign(family=results["kind"])]
)


shown = everything[everything["family"] != "iterative"]
networks = {name: rows.iloc[0]["network"] for name, rows in shown.groupby("name")}
pareto = pd.DataFrame(
    {
        "family": shown.groupby("name")["family"].first(),
        "bytes, packed": shown.groupby("name")["packed"].mean(),
        "MACs": {name: measure.macs(net, one_image) for name, net in networks.items()},
        "latency (µs)": timed_in_turn(
            networks, turns=scale.pick(smoke=1, laptop=6)
        ).median(),
        "accuracy": 100 * shown.groupby("name")["test"].mean(),
    }
)

# %% tags=["readme"]
fig, axes = plt.subplots(1, 3, figsize=(8.8, 3.2), sharey=True)
labels = {
    "dense": "dense, of several widths",
    "magnitude": "pruned by size",
    "random": "pruned by lot",
}
for ax, price in zip(axes, ["bytes, packed", "MACs", "latency (µs)"], strict=True):
    for number, (family, label) in enumerate(labels.items()):
        points = pareto[pareto["family"] == family].sort_values("bytes, packed")
        ax.plot(
            points[price],
            points["accuracy"],
            marker=plots.MARKERS[number],
            color=plots.COLOURS[number],
            ls="-" if price == "bytes, packed" or family == "dense" else "none",
            label=label,
        )
    ax.set(xlabel=price)
for ax, ticks in zip(axes, [[1e4, 3e4, 1e5, 3e5], [1e5, 3e5, 1e6]], strict=False):
    ax.set_xscale("log")
    ax.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    ax.minorticks_off()
axes[0].set(ylabel="accuracy on test (%)")
axes[1].legend(fontsize=8, loc="lower left")
fig.suptitle(
    "Zeros save bytes, not arithmetic and not time", x=0.01, ha="left", fontsize=11
)
plt.show()

# %% [markdown]
# Towards the upper left is better. In the first panel the two lines can be compared. In the other two the pruned
# networks stand above one another at the price of the large network that they came from.

# %% [markdown]
# These networks go on show: lesson 07 draws what the course has trained on your machine. For that, all files have eight bits a
# weight, as is explained there.

# %%
shown_later = pareto.rename(columns={"latency (µs)": "latency µs"}).assign(
    accuracy=pareto["accuracy"] / 100,
    bytes={name: len(measure.pack(net, bits=8)) for name, net in networks.items()},
)
exhibits.keep("03 weights", shown_later.reset_index(names="name"))

# %%
bytes_of = everything.groupby("name")["packed"].mean()
comparisons = {}
for s in levels:
    pruned_name = f"magnitude {100 * s:.0f} %"
    ratio = {w: abs(np.log(bytes_of[f"width {w}"] / bytes_of[pruned_name])) for w in widths}
    dense_name = f"width {min(ratio, key=ratio.get)}"
    comparisons[pruned_name, dense_name] = paired(
        everything, "test", better={"name": pruned_name}, than={"name": dense_name}
    )
words = {
    "higher": "pruned wins",
    "lower": "small and dense wins",
    "cannot tell": "cannot tell",
}
Markdown(
    "Each pruned network minus the dense one that is nearest in packed bytes:\n\n"
    + "\n".join(
        f"- {pruned} ({bytes_of[pruned]:,.0f} bytes) against {dense} "
        f"({bytes_of[dense]:,.0f} "
        f"bytes): {difference.text()}: **{words[difference.verdict]}**"
        for (pruned, dense), difference in comparisons.items()
    )
)

# %%
won = [pair[0] for pair, d in comparisons.items() if d.verdict == "higher"]
sparsest = results[(results["kind"] == "magnitude") & (results["sparsity"] == levels[-1])]
packed, example = sparsest["packed"].mean(), sparsest.iloc[0]["network"]
scored = prune.weights(example).values()
alive = 4 * sum(int(w.count_nonzero()) for w in scored)
kept_whole = 4 * (
    sum(t.numel() for t in example.state_dict().values()) - sum(w.numel() for w in scored)
)
at_equal_bytes = (
    f"At equal bytes, pruning wins here for: {', '.join(won)}."
    if won
    else "**At equal bytes, pruning wins nowhere here.** As far as these seeds can tell, "
    "a small network does as well or better, and it is faster besides."
)
Markdown(
    f"{at_equal_bytes} Where do the bytes go? At {levels[-1]:.0%} the weights that are left "
    f"take about {alive / packed:.0%} of them. Biases and batch norm of the wide network, "
    f"which were not pruned, take {kept_whole / packed:.0%}; the rest says where the weights "
    "stand. A small dense network needs no addresses, and has fewer channels to normalise."
)

# %% [markdown]
# So read a pruning paper's figure with care. Is a small dense network in it? Is the price non-zeros (where addresses cost
# nothing), bytes, or time? Was everything trained equally long? On harder tasks, and with longer training than ours,
# large and sparse has often been found to beat small and dense **at equal non-zeros** (Zhu & Gupta 2017; Gale 2019).
# Lesson 05 measures that.
#
# If time is the price, the small dense network wins without a contest: the pruned one has not become faster at all.

# %% [markdown]
# ## Summary
#
# | decision | usual answer | control |
# |---|---|---|
# | what is unimportant? | small size $\lvert w \rvert$ | drawn by lot |
# | who competes? | all layers (global), each keeping at least one weight | layer by layer |
# | how are zeros kept? | multiply by the mask after every step | count the zeros |
# | how is it trained? | a few epochs at the training's own learning rate | dense, trained as long |
# | was it worth it? | packed bytes against accuracy | small dense networks of several widths |
#
# - Most weights go for next to nothing after a short training; past a point accuracy falls off a cliff.
# - A zero costs as much time and as many bytes as any other number, until file and program are told about it.
# - A small dense network, trained as long, is the baseline to beat. It is harder to beat than the large network.
# - In `torch.nn.utils.prune`, amounts are of what is left, keys change, and `remove` is no undo.
#
# ## Check yourself
#
# <details><summary>1. You prune 50 % with torch's module, then call it again with 0.8. How sparse is the layer?</summary>
#
# 90 %: the second call takes 80 % of the half that was left.
# </details>
# <details><summary>2. A paper prunes in ten rounds with five epochs each, and compares with pruning once and training for
# five epochs. What is missing?</summary>
#
# A control with the same number of epochs: pruning once and training for fifty, and the dense network trained for fifty.
# </details>
# <details><summary>3. Your layer has 75 % zeros, and its file is as large as before. Why, and what would you do?</summary>
#
# The file stores every number, zeros included. Store a bit for every place and only the non-zeros, then compress. (One
# bit beside a quarter of 32 bits makes about nine bits a weight.)
# </details>
#
# ## Further reading
#
# - S. Han, J. Pool, J. Tran, W. Dally. Learning both weights and connections for efficient neural networks.
#   *NeurIPS*, 2015. arXiv:1506.02626.
# - Y. LeCun, J. Denker, S. Solla. Optimal brain damage. *NeurIPS*, 1989.
# - D. Blalock, J. Gonzalez Ortiz, J. Frankle, J. Guttag. What is the state of neural network pruning? *MLSys*, 2020.
#   arXiv:2003.03033.
# - A. Renda, J. Frankle, M. Carbin. Comparing rewinding and fine-tuning in neural network pruning. *ICLR*, 2020.
#   arXiv:2003.02389.
# - M. Zhu, S. Gupta. To prune, or not to prune: exploring the efficacy of pruning for model compression.
#   *ICLR* workshop, 2018. arXiv:1710.01878.
# - T. Gale, E. Elsen, S. Hooker. The state of sparsity in deep neural networks. arXiv:1902.09574, 2019.
#
# ## What comes next
#
# Lesson 04 removes whole channels, so that the network really becomes smaller and faster. It needs from here: the
# ranking by size, the control by lot, and the honest comparison with a small dense network.
