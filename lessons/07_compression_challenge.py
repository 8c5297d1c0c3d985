# %% [markdown]
# # 07 · The compression challenge
#
# **Question.** You have a budget of bytes, arithmetic and time. What is the best network that keeps it?
#
# **Answer.** Nobody knows before it is measured. You have the tools: small architectures, distillation, masks, channels,
# their combination, and in this lesson weights of few bits. The check does not ask how you did it. It takes the
# file that your network is saved in, and measures what the file gives back.
#
# **Explanation.** A budget changes how one works. A method is no longer good or bad, it earns its bytes or it does not. And
# the test set is worth something only as long as few have looked at it: you choose on validation data, and the test set
# answers once for each network.
#
# **You will be able to**
# - store a network in few bits, and say what rounding costs;
# - read a Pareto plot of many networks, and place your own in it;
# - work to a budget: choose on validation data, and report once.
#
# *An afternoon for you, or as long as you like; about three minutes for two processor cores. All lessons come before.*

# %% [markdown]
# ## Code
#
# Three lines are the whole challenge:
#
# ```python
# network = models.build("cnn", width=8)
# fit(network, fashion.train, objective=Distill(teacher), epochs=20, seed=0)
# check.challenge(network, "smaller", bits=8)
# ```

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

from kdlab import challenge, check, data, exhibits, measure, models, plots, scale
from kdlab import pruning as prune
from kdlab.claims import claim
from kdlab.distillation import Distill
from kdlab.experiments import run
from kdlab.training import evaluate, fit

plots.use_style()
fashion = data.load()
one_image = fashion.val.images[:1]

# %% [markdown]
# ## The budgets
#
# Each budget limits three prices at once: the bytes of the file, the multiply-accumulate operations for one picture, and
# the time of one prediction, as a fraction of the time that a fixed large network takes on the same machine: machines differ.
# (It is `challenge.reference()`, larger than the teacher below.) Bytes and arithmetic are the narrow limits; the one on time
# keeps networks out that are small but slow.

# %%
budgets = [
    {"budget": name, "bytes": b.bytes, "MACs": b.macs, "time": b.latency}
    for name, b in challenge.BUDGETS.items()
]
plots.table(budgets, "budget", {"bytes": "{:,}", "MACs": "{:,}", "time": "{:.0%}"})

# %% [markdown]
# For comparison, the teacher that we start from: of the kind and size of lesson 01's, trained without augmentation.

# %%
teacher = models.build("resnet", width=16, seed=0)
fit(
    teacher,
    fashion.train,
    val=fashion.val,
    epochs=scale.pick(smoke=2, laptop=16, full=20),
    lr=0.2,
    seed=0,
)
large = {
    "network": "the teacher",
    "bytes": measure.bytes_on_disk(teacher),
    "MACs": measure.macs(teacher, one_image),
    "accuracy on val": evaluate(teacher, fashion.val),
}
formats = {"bytes": "{:,}", "MACs": "{:,}", "accuracy on val": "{:.1%}"}
plots.table([large], "network", formats)

# %% [markdown]
# ## Few bits
#
# A weight takes four bytes. Lesson 03 left some weights out of the file; here all of them stay, in fewer bits. Leaving out and
# rounding together, then Huffman coding, is *deep compression* (Han 2016). Lesson 06 called `measure.quantise` without saying
# how it works; here is how. With $b$ bits
# a weight becomes one of $2^b - 1$ whole numbers, its **code**, and one **scale** for each output channel says what the
# codes are worth (Krishnamoorthi 2018). Here is one channel of one layer; the dotted line is no rounding at all.

# %%
layer = teacher.stages[0].conv1.weight.detach()
row = layer[0].flatten()
fig, axes = plt.subplots(1, 3, figsize=(9.5, 2.4), sharey=True)
for ax, bits in zip(axes, (8, 4, 2), strict=True):
    rounded = measure.quantise(teacher, bits).stages[0].conv1.weight.detach()[0].flatten()
    ax.plot(row, rounded, ".", ms=4)
    ax.plot([row.min(), row.max()], [row.min(), row.max()], "k:", lw=1)
    ax.set(title=f"{bits} bits", xlabel="weight")
axes[0].set_ylabel("what the file gives back")
plt.show()

# %% [markdown]
# ### Exercise: round a weight to few bits
#
# *Difficulty ●●○ · 15 minutes · you will have: the weights that an 8-bit file gives back.*
#
# Complete `quantise_weight` for the weight of one layer, of shape `(outputs, …)`: a linear layer or a convolution.
# The file holds a signed whole number of `bits` bits (2 to 8) for every weight, its **code**, and one **scale** for each
# output channel. With $b$ bits, the codes run from $-q$ to $q$, where $q = 2^{b-1} - 1$:
#
# $$s_c = \frac{\max |w_c|}{q} \qquad \text{code} = \mathrm{round}\left(\frac{w}{s_c}\right) \qquad
# \hat w = s_c \cdot \text{code}$$
#
# Return $\hat w$, in the shape of the weight: what a layer computes with after the file has been read. A channel
# may be all zeros, and has to stay so.


# %% exercise="quantise_weight"
def quantise_weight(weight, bits):
    """Return the weight rounded to `bits` bits, with one scale per output channel."""
    ### BEGIN SOLUTION
    largest = 2 ** (bits - 1) - 1
    channels = weight.flatten(1)
    scale = channels.abs().amax(dim=1, keepdim=True) / largest
    scale[scale == 0] = 1
    codes = (channels / scale).round()
    return (codes * scale).reshape(weight.shape)
    ### END SOLUTION


# %% check="quantise_weight" points=3
check.quantise_weight(quantise_weight)
### BEGIN HIDDEN TESTS
check.grade("quantise_weight", quantise_weight)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `flatten(1)` makes one row of everything that belongs to an output channel, whatever the layer. With `keepdim=True`
# a maximum along the rows keeps a shape that the rows can be divided by.
# </details>
# <details><summary>Hint 2</summary>
#
# What is the scale of a channel of zeros, and what is zero divided by it? Change the scale before you divide.
# </details>

# %% [markdown] solution="quantise_weight"
# **Why.** The scale is the finest one with which the largest weight of the channel still gets a code that fits, so
# nothing has to be cut off. No weight moves by more than half a step. One scale per output channel costs a few bytes,
# and keeps a channel of small weights from being rounded with the coarse step of another. And as the codes are
# symmetric, zero has the code zero: what was pruned stays pruned.

# %% [markdown]
# ### What rounding costs
#
# The library does nearly the same (it keeps everything that is no weight as 16-bit numbers), and packs the codes:
# `measure.quantise(network, bits)` gives the rounded network, and the file has *at most* about `bits / 8` bytes a weight. It is
# less with few bits, because the codes are compressed, and the fewer bits, the more of the codes are zero. On the teacher:

# %%
by_bits = [
    {
        "bits": bits,
        "bytes": len(measure.pack(teacher, bits=bits)),
        "accuracy": evaluate(measure.quantise(teacher, bits), fashion.val),
    }
    for bits in range(2, 9)
]
fig, axes = plt.subplots(1, 2, figsize=(8.5, 2.6))
bits = [r["bits"] for r in by_bits]
axes[0].plot(bits, [100 * r["accuracy"] for r in by_bits], "o-")
axes[0].axhline(100 * large["accuracy on val"], color="black", ls=":", lw=1)
axes[0].set(
    xlabel="bits a weight", ylabel="accuracy on val (%)", title="Many bits are not needed"
)
axes[1].plot(bits, [r["bytes"] / 1000 for r in by_bits], "o-")
axes[1].set(
    xlabel="bits a weight", ylabel="file (kB)", ylim=(0, None), title="And each one costs"
)
plt.show()

# %%
lost = large["accuracy on val"] - by_bits[-1]["accuracy"]
claim(
    "Eight bits a weight cost the teacher less than half a point on val, and save at least two "
    "thirds of its file.",
    f"{100 * lost:.2f} points; {by_bits[-1]['bytes']:,} of {large['bytes']:,} bytes",
    holds=lost < 0.005 and by_bits[-1]["bytes"] < large["bytes"] / 3,
)

# %% [markdown]
# This network was trained without knowing that it would be rounded. Below four bits it loses accuracy, as the left plot
# shows, and one would train with rounding in the loop (Jacob 2018). That is not needed here.

# %% [markdown]
# ## What is on show
#
# What lessons 01 to 06 have put on show on this machine, accuracy on test against bytes. The line is the **front**: no network on
# it is beaten by another that is smaller and better. If you have not run the other lessons, the picture is empty; run
# lessons 01 to 06, and it fills.
#
# To be fair to all methods, all files have one format: packed, eight bits a weight. The accuracy of the lessons' networks is
# from before the rounding, which costs next to nothing, as you have just seen. Each of their points is a mean over seeds.

# %%
plots.pareto(exhibits.collected(), cost="bytes", title="The course so far")

# %% [markdown]
# Where is there room? At the left, with few bytes, and above: the lessons trained for seconds.

# %% [markdown]
# ## Your turn
#
# Build a network and train it as you like on `fashion.train`. Look at `fashion.val` as often as you like, and hand in the
# one that you choose: the check looks at test data. Start with the *small* budget. The network must be one of the course's (`mlp`, `cnn`, `resnet`, with any widths, masked, or with
# channels removed), or one of your own that is registered with `models.register`, because the check builds it again from
# its file.

# %%
mine = models.build("cnn", width=8, seed=0)
fit(mine, fashion.train, epochs=scale.pick(smoke=1, laptop=2), seed=0)
print(f"on val, in 8 bits: {evaluate(measure.quantise(mine, bits=8), fashion.val):.1%}")

# %%
check.challenge(mine, "small", bits=8, name="a beginning")

# %% [markdown]
# This is a beginning, and no more: a few thousand weights, trained for seconds on labels only. In the cell that builds and trains
# `mine`, replace the first two lines by better ones. Run *that* cell as often as you like: it shows the accuracy on val only.
# Run the cell with `check.challenge` once you have chosen.
#
# The brackets hold lesson 00's binomial interval: it speaks of other pictures, not of other seeds. And do not compare val with
# test: these val pictures are easier than those of test, and for a network that nobody chose, too.
#
# Your networks are the stars. Each is one network, with the file and the bits in which you handed it in.

# %%
plots.pareto(exhibits.collected(), cost="bytes", title="Your networks among the others")

# %% [markdown]
# <details><summary>Hint 1: where to begin</summary>
#
# A budget of bytes is a budget of parameters times bits. How many parameters at 8 bits, how many at 4? Then ask the MACs.
# In these networks the first stages cost arithmetic, because their pictures are large, and the last stages cost bytes.
# </details>
# <details><summary>Hint 2: what to learn from</summary>
#
# With all images and few epochs soft labels help little (lesson 01). With augmented images and *many* epochs they are reported
# to help (Beyer 2022): hand the teacher itself to `Distill`, and it labels every augmented view.
# </details>
# <details><summary>Hint 3: where to start from</summary>
#
# Fresh weights, or the teacher with channels cut out (lesson 04)? Lesson 06 has the table.
# </details>

# %% [markdown]
# ### What the check refuses
#
# It judges the file, and only the file. A network that is small because of something the file does not hold is refused, and
# so is one that carries more than its class says. For example one that has the answers with it:

# %%
cheat = models.build("cnn", width=8, seed=0)
cheat.register_buffer("memory", fashion.test.images[:2000])
check.challenge(cheat, "small")

# %% [markdown]
# ## Three reference solutions
#
# These are ours, one for each budget. They are not the best possible, and they are there to be beaten. All three learn from
# the augmented view that the teacher sees at that moment.
#
# | budget | start | small by |
# |---|---|---|
# | small | fresh residual network | a width of 12, eight bits |
# | smaller | the teacher | channels cut out, then distilled, eight bits |
# | tiny | fresh residual network | a width of 7, four bits |

# %%
LONG = scale.pick(smoke=1, laptop=12, full=60)
settings = {"epochs": LONG, "augment": True, "seed": 0}


def solution(budget):
    """Return a network for a budget, and the bits that it is stored in."""
    listen = Distill(teacher, temperature=4, alpha=0.9)
    if budget == "small":
        network = models.build("resnet", width=12, seed=1)
        fit(network, fashion.train, objective=listen, lr=0.2, **settings)
        return network, 8
    if budget == "smaller":
        network = prune.channels.remove(teacher, one_image, ratio=0.5)
        fit(network, fashion.train, objective=listen, lr=0.1, **settings)
        return network, 8
    network = models.build("resnet", width=7, seed=1)
    fit(network, fashion.train, objective=listen, lr=0.1, **settings)
    return network, 4


def solve(seed, budget):
    network, bits = solution(budget)
    return {"val": evaluate(measure.quantise(network, bits), fashion.val)}


solved = run(solve, {"budget": list(challenge.BUDGETS)}, over=[0])
plots.table(solved.to_dict("records"), "budget", {"val": "{:.1%}"})

# %% [markdown]
# Each is handed in once:

# %%
network, bits = solution("small")
check.challenge(network, "small", bits, name="reference: small")

# %%
network, bits = solution("smaller")
check.challenge(network, "smaller", bits, name="reference: smaller")

# %%
network, bits = solution("tiny")
tiny = check.challenge(network, "tiny", bits, name="reference: tiny")
tiny

# %%
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "tiny.kdlab"
    size = challenge.save(network, path, bits)
    again = evaluate(challenge.load(path), fashion.val)
claim(
    "The tiny reference solution, file and all, has at most 10,000 bytes.",
    f"{size:,} bytes on disk, {large['bytes'] / size:.0f} times fewer than its teacher; loaded "
    f"again, {again:.1%} on val",
    holds=size <= 10_000,
)

# %% tags=["readme"]
plots.pareto(exhibits.collected(), cost="bytes", title="The references among the others")

# %% [markdown]
# Against arithmetic the picture is another one. Look for the tiny reference: a network can be on the front of one price and
# behind that of another.

# %%
plots.pareto(exhibits.collected(), cost="MACs", title="The same against arithmetic")

# %% [markdown]
# These are single networks: one seed each, because a challenge hands in networks and not methods. How far the tools carry
# over several seeds, with more patience, is on the page of results (`RESULTS.md`), which `make results` writes from the
# store.

# %% [markdown]
# ## Summary
#
# - A budget is kept by the saved file, or not at all. Measure what you ship.
# - Bits are one more way to be small, and about the cheapest: eight cost next to nothing.
# - Choose on validation data. Each look at test data makes the best of your networks look better than it is.
# - There is no best method. There is a front, and a price that you care about.
#
# ## Check yourself
#
# <details><summary>1. A network has 20,000 weights. About how many bytes does it take at 6 bits?</summary>
#
# 20,000 · 6 / 8 = 15,000 bytes, and a little for scales, batch norm and names.
# </details>
# <details><summary>2. You have tried twelve networks, and all were scored on test. The best has 90.2 %. What can you say about
# it?</summary>
#
# That it is probably worse than that on new data: the best of twelve was helped by luck. Choose by val, and report the test
# accuracy of the one you chose.
# </details>
# <details><summary>3. Why is a mask of 50 % zeros worth less than half of the file when weights have four bits?</summary>
#
# The file has to say where the zeros are. That takes up to a bit a weight, and next to four bits a weight a bit is not
# little.
# </details>
#
# ## Further reading
#
# - S. Han, H. Mao, W. Dally. Deep compression: compressing deep neural networks with pruning, trained quantization and
#   Huffman coding. *ICLR*, 2016. arXiv:1510.00149.
# - R. Krishnamoorthi. Quantizing deep convolutional networks for efficient inference: a whitepaper. arXiv:1806.08342, 2018.
# - B. Jacob et al. Quantization and training of neural networks for efficient integer-arithmetic-only inference. *CVPR*,
#   2018. arXiv:1712.05877.
# - A. Polino, R. Pascanu, D. Alistarh. Model compression via distillation and quantization. *ICLR*, 2018.
#   arXiv:1802.05668.
# - L. Beyer, X. Zhai, A. Royer, L. Markeeva, R. Anil, A. Kolesnikov. Knowledge distillation: a good teacher is patient and
#   consistent. *CVPR*, 2022. arXiv:2106.05237.
#
# ## What comes next
#
# Your own network, on your own data: `data.from_tensors` makes splits of it, and everything else stays the same.
