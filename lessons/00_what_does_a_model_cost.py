# %% [markdown]
# # 00 · What does a model cost?
#
# **Question.** A network gets most images right. What did that cost, and how do I know that it is true?
#
# **Answer.** A network has five prices: its parameters, its bytes on disk, the arithmetic of one prediction, the time
# of one prediction, and how often it is right. Each has its own way of being measured badly. This lesson measures all five
# on three small networks, and shows why one training run proves nothing.
#
# **Explanation.** The rest of the course makes networks smaller. "Smaller" is a claim about a price, and "without loss"
# is a claim about accuracy. Both need a ruler before they need a method.
#
# **You will be able to**
# - count the parameters and multiply-accumulate operations (MACs) of a convolution by hand;
# - time a network without fooling yourself;
# - say how sure an accuracy is, and whether one method beats another.
#
# *About 45 minutes for you, about a minute for two processor cores. You need to have trained a small classifier in
# PyTorch before.*

# %% [markdown]
# ## Code: is everything here?
#
# The course needs no GPU and no network. The next cell loads what this lesson uses and says how large it will run.

# %%
import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from IPython.display import Markdown

from kdlab import check, data, measure, models, plots, scale
from kdlab.claims import claim
from kdlab.experiments import paired, run
from kdlab.training import CrossEntropy, evaluate, fit

plots.use_style()
f"torch {torch.__version__}, {torch.get_num_threads()} threads, scale: {scale.current()}"

# %% [markdown]
# ## The data
#
# Fashion-MNIST (Xiao, Rasul & Vollgraf 2017): grey-scale pictures of 28 x 28 pixels, ten kinds of clothing. A part of
# it travels with the course. It comes in three splits: **train** to learn from, **val** to choose with, **test** to
# report on, once, at the very end.

# %%
fashion = data.load()
fashion

# %%
first_of_each = [int((fashion.train.labels == c).nonzero()[0]) for c in range(10)]
plots.gallery(
    fashion.train.show(first_of_each),
    fashion.classes,
    title="One training image of every class",
)

# %% [markdown]
# ## Three networks
#
# - an **MLP**: two hidden layers of 300 and 100 neurons;
# - a **CNN**: three strided convolutions, then an average over positions and a linear layer;
# - a **ResNet**: three stages of residual blocks.
#
# Each is a plain `nn.Module` of about twenty lines in `kdlab/models/networks.py`. The layers of the CNN (its
# `forward` also averages over positions):

# %%
models.build("cnn", width=8)

# %% [markdown]
# ## Training: the loop in ten lines
#
# Nothing about training is hidden in this course. This is the whole idea: pick a batch, compute a loss, follow its
# gradient.

# %%
torch.manual_seed(0)
network = models.build("cnn", width=8)
optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
for _epoch in range(scale.pick(smoke=1, laptop=2)):
    for positions in torch.randperm(len(fashion.train)).split(128):
        batch = fashion.train.batch(positions)
        loss = F.cross_entropy(network(batch.images), batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

f"accuracy on val: {evaluate(network, fashion.val):.3f}"

# %% [markdown]
# `fit` is the same loop, with a learning rate that rises and falls, a progress bar, a seed that decides everything, and
# a memory: stop it with the stop button, run the cell again, and it goes on where it was. From here on every network in
# the course is trained by this one function. What changes is what we hand to it.

# %%
cnn = models.build("cnn", width=8, seed=0)
history = fit(
    cnn,
    fashion.train,
    val=fashion.val,
    epochs=scale.pick(smoke=1, laptop=6, full=12),
    seed=0,
)
history

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(7, 2.6))
left.plot(history.table["loss"], marker="o")
left.set(title="The loss falls", xlabel="epoch", ylabel="training loss")
right.plot(100 * history.table["val"], marker="s", color=plots.COLOURS[1])
right.set(title="Accuracy on val rises", xlabel="epoch", ylabel="accuracy (%)")
plt.show()

# %% [markdown]
# ## Price 1: parameters
#
# A convolution with $C_\text{in}$ input channels, $C_\text{out}$ output channels and a $k \times k$ kernel keeps one
# small kernel for every pair of channels, and one bias for every output channel:
#
# $$\text{parameters} = C_\text{out}\,\left(\frac{C_\text{in}}{g}\,k^2 + 1\right)$$
#
# where $g$ is the number of groups (1 for an ordinary convolution) and the $+1$ is there only if the layer has a bias.
#
# ## Price 2: multiply-accumulate operations
#
# Each number of the output is a sum of products, and each product with its addition is one **MAC** (two floating-point
# operations, FLOPs). The same kernel is used at every position of the output, so
#
# $$\text{MACs} = H_\text{out}\,W_\text{out}\,C_\text{out}\,\frac{C_\text{in}}{g}\,k^2 .$$
#
# The output's height is $H_\text{out} = \lfloor (H + 2p - k) / s \rfloor + 1$ for padding $p$ and stride $s$; its width
# likewise.

# %% [markdown]
# ### Exercise 1: the price of a convolution
#
# *Difficulty ●○○ · 10 minutes · you will have: the two numbers that every paper on small networks reports.*
#
# Complete `conv_cost` for one image of shape `(in_channels, height, width)` and a square kernel. Return
# `(parameters, macs)`, both whole numbers. Leave the additions of the bias out of the MACs.


# %% exercise="conv_cost"
def conv_cost(
    in_channels,
    out_channels,
    kernel,
    height,
    width,
    stride=1,
    padding=0,
    groups=1,
    bias=True,
):
    """Return (parameters, macs) of a 2-d convolution on one image."""
    ### BEGIN SOLUTION
    weights = out_channels * (in_channels // groups) * kernel**2
    out_height = (height + 2 * padding - kernel) // stride + 1
    out_width = (width + 2 * padding - kernel) // stride + 1
    return weights + bias * out_channels, weights * out_height * out_width
    ### END SOLUTION


# %% check="conv_cost" points=2
check.conv_cost(conv_cost)
### BEGIN HIDDEN TESTS
check.grade("conv_cost", conv_cost)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Compute the number of weights first. The MACs are that number times the number of output positions.
# </details>
# <details><summary>Hint 2</summary>
#
# `//` is Python's division that rounds down. Divide by the stride before adding one.
# </details>

# %% [markdown] solution="conv_cost"
# **Why.** Every weight is used once at every output position, so the MACs are the weights times the positions. That is
# also why convolutions early in a network, where pictures are large, cost much arithmetic and few parameters, and
# convolutions late in a network the other way round.

# %% [markdown]
# ## Price 3: bytes on disk
#
# A file holds every number of the network (parameters, and the running statistics of batch norm) and a short list of
# their names. A number takes 4 bytes, so the file has a little more than four bytes for every parameter.

# %%
networks = {
    "MLP 300-100": models.build("mlp"),
    "CNN, width 8": models.build("cnn", width=8),
    "ResNet, width 16": models.build("resnet", width=16),
}
one_image = fashion.val.images[:1]
sizes = [
    {
        "network": name,
        "parameters": measure.parameters(net),
        "bytes": measure.bytes_on_disk(net),
        "MACs": measure.macs(net, one_image),
    }
    for name, net in networks.items()
]
plots.table(sizes, "network", {"parameters": "{:,}", "bytes": "{:,}", "MACs": "{:,}"})

# %% [markdown]
# Read the table row against row: the network with the most parameters is not the one with the most arithmetic. Which
# one is "larger" depends on whether you ship it or run it.

# %% [markdown]
# ## Price 4: time
#
# Time is the price that users feel and that is measured wrongly most often. Look at the first calls of a fresh network,
# one by one:

# %%
fresh = models.build("resnet", width=16).eval()
calls = []
with torch.no_grad():
    for _ in range(40):
        start = time.perf_counter()
        fresh(one_image)
        calls.append(1e6 * (time.perf_counter() - start))

plt.figure(figsize=(6.4, 2.6))
plt.semilogy(range(1, len(calls) + 1), calls, marker="o", ms=4)
plt.axhline(
    np.median(calls[5:]), color=plots.COLOURS[1], ls="--", label="median after five calls"
)
plt.title("The first call is slow, and now and then another")
plt.xlabel("call")
plt.ylabel("time of one call (µs)")
plt.legend()
plt.show()

# %%
Markdown(
    f"The first call took {calls[0] / np.median(calls[5:]):.1f} times the median of the later ones; the mean of all "
    f"calls is {np.mean(calls):,.0f} µs, the median after five calls {np.median(calls[5:]):,.0f} µs."
)

# %% [markdown]
# So: **warm up** before measuring, because of the first call. Repeat, and report the **median** with the distance between
# the quartiles (IQR), because one slow call cannot move them. And **fix the number of threads**: two threads on a busy
# machine can be slower than one, and a number without its thread count means nothing.

# %% [markdown]
# ### Exercise 2: a clock that is not fooled
#
# *Difficulty ●●○ · 10 minutes · you will have: a latency you can defend.*
#
# Complete `median_latency`: `run()` is the thing to time, `clock()` returns seconds. Call `run` `warmup` times without
# measuring, then `repeats` times with one measurement each, and return the median of the measurements in seconds (of an
# even number of measurements: the mean of the two in the middle). While you measure, torch must use one thread
# (`torch.set_num_threads(1)`); afterwards it must have as many as before, even if `run` raises an exception, which you
# let pass on.


# %% exercise="median_latency"
def median_latency(run, clock, warmup=3, repeats=9):
    """Return the median seconds of run(), single-threaded, after a warm-up."""
    ### BEGIN SOLUTION
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(warmup):
            run()
        times = []
        for _ in range(repeats):
            start = clock()
            run()
            times.append(clock() - start)
    finally:
        torch.set_num_threads(before)
    return float(np.median(times))
    ### END SOLUTION


# %% check="median_latency" points=3
check.median_latency(median_latency)
### BEGIN HIDDEN TESTS
check.grade("median_latency", median_latency)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `torch.get_num_threads()` tells how many threads there are now. A `try: … finally: …` block runs its last part whatever
# happens in the first.
# </details>
# <details><summary>Hint 2</summary>
#
# Read the clock once before and once after *every* measured call, and keep all the differences.
# </details>

# %% [markdown] solution="median_latency"
# **Why.** The warm-up lets caches fill and memory be allocated. One clock reading around all calls would give a mean,
# which one interruption by the operating system can double. The `finally` matters: a measurement must not change the
# machine that the next one runs on.

# %% [markdown]
# From here on the course uses torch's own benchmark timer, wrapped in `measure.latency`, which does all of this:

# %%
{name: measure.latency(net, one_image) for name, net in networks.items()}

# %% [markdown]
# ### Does arithmetic predict time?
#
# Papers report MACs because they are easy to count. Here are two networks: one narrow and deep, one wide and shallow.
# Both are timed in turn, in several rounds, so that a machine that gets busy meets both.
#
# The library's `run` calls a function for every setting and collects what it returns in a table.

# %%
contestants = {
    "narrow and deep": models.build("resnet", width=4, blocks=3),
    "wide and shallow": models.build("cnn", width=32),
}


def time_once(seed, network):
    timed = measure.latency(
        contestants[network], one_image, seconds=scale.pick(smoke=0.05, laptop=0.2)
    )
    return {"µs": 1e6 * timed.median, "MACs": measure.macs(contestants[network], one_image)}


rounds = [
    run(time_once, {"network": list(contestants)}, over=[r], jobs=1, progress=False)
    for r in range(5)
]
timings = pd.concat(rounds).rename(columns={"seed": "round"})

# %%
points = {
    name: (rows["MACs"].iloc[0], rows["µs"].median())
    for name, rows in timings.groupby("network")
}
plots.scatter(
    points,
    xlabel="MACs of one prediction",
    ylabel="time of one prediction (µs, median)",
    title="Less arithmetic, more time",
)

# %%
deep, wide = (points[name] for name in contestants)
Markdown(
    f"The narrow, deep network needs {deep[0] / wide[0]:.0%} of the arithmetic of the wide, shallow one, and "
    f"{deep[1] / wide[1]:.1f} times its time."
)

# %%
claim(
    "The narrow, deep network has fewer MACs.",
    f"{deep[0]:,} against {wide[0]:,}",
    holds=deep[0] < wide[0],
)

# %% [markdown]
# Every claim of this course is judged by the notebook itself. For a measured difference it gives the mean over several
# repetitions and a **95 % interval**, and the *whole* interval has to lie on the right side. Exercise 3 shows where the
# interval comes from.

# %%
claim(
    "The narrow, deep network takes longer all the same: latency does not follow MACs.",
    paired(
        timings,
        "µs",
        better={"network": "narrow and deep"},
        than={"network": "wide and shallow"},
        by="round",
        unit="µs",
    ),
    above=0,
)

# %% [markdown]
# Every layer has a fixed cost of being called, of reading its input and of writing its output. A deep network of tiny
# layers pays that cost many times and has little arithmetic to hide it (Dehghani 2022 collects many such cases). So when
# this course says *faster*, it shows a time.

# %% [markdown]
# ## Price 5: what it gets right
#
# Accuracy is a fraction of a finite number of images, and another sample of images would have given another fraction.
# How far away? The **binomial interval** (Wilson 1927) answers that for one trained network:

# %%
measure.accuracy(cnn, fashion.val)

# %%
right = np.round(0.88 * np.array(sample_sizes := [100, 500, 2000, 10_000])).astype(int)
intervals = [
    measure.Accuracy(int(k), n).interval for k, n in zip(right, sample_sizes, strict=True)
]
plt.figure(figsize=(6.4, 2.6))
for n, (low, high) in zip(sample_sizes, intervals, strict=True):
    plt.plot([n, n], [100 * low, 100 * high], lw=5, solid_capstyle="butt")
plt.axhline(88, color="black", lw=0.8)
plt.xscale("log")
plt.title("88 % right: four times the images halve the interval")
plt.xlabel("images")
plt.ylabel("95 % interval (%)")
plt.show()

# %% [markdown]
# ### All prices at once
#
# `measure.prices` gives them all as one row; `low` and `high` bound the accuracy's binomial interval. Rows make the
# tables and figures of the later lessons.

# %%
for number, net in enumerate(networks.values()):
    fit(net, fashion.train, epochs=scale.pick(smoke=1, laptop=3, full=8), seed=number)
rows = [
    {"network": name, **measure.prices(net, fashion.val)} for name, net in networks.items()
]
plots.table(
    rows,
    "network",
    {
        "parameters": "{:,}",
        "bytes": "{:,}",
        "MACs": "{:,}",
        "latency µs": "{:,.0f}",
        "accuracy": "{:.1%}",
        "low": "{:.1%}",
        "high": "{:.1%}",
    },
)

# %% [markdown]
# ## One seed is no evidence
#
# The binomial interval speaks of other *images*. It says nothing of other *training runs*. Here the same network is
# trained several times with the same settings. Only the **seed** differs: the initial weights and the order of the
# samples. `run` trains them side by side, on all cores. What it has measured it remembers, until you change something that
# the function uses: run the cell a second time, and the answer is there at once.


# %%
def train_cnn(seed, smoothing):
    network = models.build("cnn", width=8, seed=seed)
    fit(
        network,
        fashion.train,
        objective=CrossEntropy(smoothing),
        epochs=scale.pick(smoke=1, laptop=5, full=8),
        seed=seed,
    )
    return {"val": evaluate(network, fashion.val)}


spread = run(train_cnn, {"smoothing": [0.0]}, over=scale.pick(smoke=3, laptop=10))
plots.dots(
    {"same settings": spread["val"]},
    xlabel="accuracy on val (%)",
    title="One network, one recipe, other seeds",
)

# %%
published = (
    75.48 - 74.92
)  # CRD over plain KD, WRN-40-2 to WRN-16-2 on CIFAR-100: Tian 2020, table 1
accuracies = 100 * spread["val"].to_numpy()
pairs = np.abs(accuracies[:, None] - accuracies)[np.triu_indices(len(accuracies), k=1)]
Markdown(
    f"Take two of these runs at random: on average they differ by **{pairs.mean():.2f} points**, at most by "
    f"{pairs.max():.2f}. In {np.mean(pairs > published):.0%} of the pairs the difference is larger than "
    f"{published:.2f} points, by which a well-known paper on distillation improves on plain distillation (Tian, Krishnan "
    "& Isola 2020, table 1, first column; means over several runs, on another data set: compare the sizes only)."
)

# %%
claim(
    "Two runs of the same recipe can differ by more than a published gain of half a point.",
    f"largest difference among {len(spread)} seeds: {pairs.max():.2f} points; published gain: {published:.2f} points",
    holds=pairs.max() > published,
)

# %% [markdown]
# With one run each, the lucky one called "our method" and the unlucky one "the baseline", we would have found a gain made
# of nothing. The protection is cheap: several seeds, the **same** seeds for both methods, and an interval on the
# difference.

# %% [markdown]
# ### Exercise 3: a paired interval
#
# *Difficulty ●●○ · 10 minutes · you will have: the test that every claim of this course has to pass.*
#
# Complete `paired_interval`: `a` and `b` hold one accuracy a seed, in the same order, as lists or arrays. Return
# `(mean_difference, low, high)` of `a - b`, where `low` and `high` bound the interval of the mean at the given
# `confidence` (0.95 for 95 %):
#
# $$\bar d \pm t_{n-1}\,\frac{s_d}{\sqrt n}, \qquad d_i = a_i - b_i ,$$
#
# with $s_d$ the sample standard deviation (dividing by $n-1$) and $t_{n-1}$ the quantile of Student's distribution,
# `scipy.stats.t.ppf`.


# %% exercise="paired_interval"
def paired_interval(a, b, confidence=0.95):
    """Return (mean difference, low, high) of a - b over paired seeds."""
    from scipy import stats

    ### BEGIN SOLUTION
    difference = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    n = len(difference)
    quantile = stats.t.ppf((1 + confidence) / 2, n - 1)
    half = quantile * difference.std(ddof=1) / np.sqrt(n)
    return difference.mean(), difference.mean() - half, difference.mean() + half
    ### END SOLUTION


# %% check="paired_interval" points=3
check.paired_interval(paired_interval)
### BEGIN HIDDEN TESTS
check.grade("paired_interval", paired_interval)
### END HIDDEN TESTS

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# A 95 % interval leaves 2.5 % on either side, so the quantile is not the one at 0.95.
# </details>
# <details><summary>Hint 2</summary>
#
# numpy's `std` divides by n unless you tell it otherwise (`ddof`).
# </details>

# %% [markdown] solution="paired_interval"
# **Why.** Subtracting seed by seed removes what both runs share: the order of the samples and the initial weights. What
# is left is the effect of the method and the luck that is its own. With few seeds the normal distribution's 1.96 is too
# optimistic; Student's quantile for five seeds is 2.78.

# %% [markdown]
# ### Using it
#
# Does **label smoothing** (Szegedy 2016: spread a tenth of the target over all classes) improve this network? The same
# seeds, with and without:

# %%
smoothed = run(train_cnn, {"smoothing": [0.0, 0.1]}, over=scale.pick(smoke=3, laptop=10))
plots.dots(
    {
        "plain": spread["val"],
        "label smoothing 0.1": smoothed.loc[smoothed["smoothing"] == 0.1, "val"],
    },
    xlabel="accuracy on val (%)",
    title="Do these two differ?",
)

# %%
gain = paired(smoothed, "val", better={"smoothing": 0.1}, than={"smoothing": 0.0})
reading = {
    "higher": "Smoothing helps here.",
    "lower": "Smoothing hurts here.",
    "cannot tell": "The interval holds zero: with these seeds we cannot tell whether smoothing does anything here.",
}
Markdown(f"Label smoothing minus plain: **{gain.text()}**. {reading[gain.verdict]}")

# %% [markdown]
# Compare the figure with the sentence. The two drawn intervals each hold the luck of the seeds, and may overlap. The
# paired interval has taken out what both methods share with a seed, and can be narrower.
#
# Where the paired interval holds zero, "cannot tell" is the result, and one worth writing down. More seeds make the
# interval narrower; picking the seeds that suit us could produce either answer.

# %% [markdown]
# ## Why test data is looked at once
#
# Suppose many variants of a method are all exactly equally good. Score each on the same number of test images and keep
# the best. How good does the winner look?

# %%
luck = np.random.default_rng(0)
truth, images = 0.88, len(fashion.test)
variants = [1, 2, 5, 10, 20, 50, 100]
best = [
    100 * (luck.binomial(images, truth, (4000, v)) / images).max(1).mean() - 100 * truth
    for v in variants
]
plt.figure(figsize=(6.4, 2.6))
plt.semilogx(variants, best, marker="o")
plt.xticks(variants, map(str, variants))
plt.title("The best of many equals looks better than it is")
plt.xlabel("variants tried on the same test images")
plt.ylabel("imagined gain (points)")
plt.show()

# %%
Markdown(
    f"With {images:,} test images, the best of fifty equal variants seems to gain **{best[variants.index(50)]:.2f} "
    "points**, without being better by anything at all."
)

# %% [markdown]
# So temperature, sparsity, number of epochs, anything that is *chosen*, is chosen on **val** in this course. Test data is
# sealed: asking for it by accident is an error that says what to do.

# %%
try:
    evaluate(cnn, fashion.test)
except ValueError as error:
    print(error)

# %% [markdown]
# And this is the one look, at the end:

# %%
measure.accuracy(cnn, fashion.test, final=True)

# %% [markdown]
# ## Summary
#
# | price | how | trap |
# |---|---|---|
# | parameters | count | zeros count too |
# | bytes on disk | save it and look | batch norm's statistics are saved as well |
# | MACs | torch's counter, halved | they do not predict time |
# | time | warm up, one thread, median and IQR | the first call; the mean; unnamed threads |
# | accuracy | a fraction with an interval | other images, and other seeds |
#
# A difference between two methods counts when its paired interval over several seeds does not hold zero, and when what
# was chosen was chosen on val.
#
# ## Check yourself
#
# <details><summary>1. A 1 x 1 convolution from 64 to 64 channels works on a picture of 14 x 14, another on 7 x 7. Which has
# more parameters, and which more MACs?</summary>
#
# Both have the same parameters. The first has four times the MACs: four times as many positions.
# </details>
# <details><summary>2. A paper reports the best test accuracy over all epochs. What is wrong?</summary>
#
# The epoch was chosen on test data. The number is the largest of many, and it is too good on average.
# </details>
# <details><summary>3. Method A beats B by 0.3 points on one seed, with 10,000 test images. What do you know?</summary>
#
# Nearly nothing. Other seeds would give another difference, and this one may be luck. (The two accuracies share their
# images, so what counts is on how many images the two disagree; but one run each cannot tell method from seed.)
# </details>
#
# ## Further reading
#
# - H. Xiao, K. Rasul, R. Vollgraf. Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms.
#   arXiv:1708.07747, 2017.
# - E. B. Wilson. Probable inference, the law of succession, and statistical inference. *Journal of the American
#   Statistical Association* 22, 1927.
# - X. Bouthillier et al. Accounting for variance in machine learning benchmarks. *MLSys*, 2021. arXiv:2103.03098.
# - Y. Tian, D. Krishnan, P. Isola. Contrastive representation distillation. *ICLR*, 2020. arXiv:1910.10699.
# - M. Dehghani et al. The efficiency misnomer. *ICLR*, 2022. arXiv:2110.12894.
#
# ## What comes next
#
# Lesson 01 needs three things from here: `fit`, the five prices, and the paired interval. It changes one argument of
# `fit`, what the network learns *from*, and calls it distillation.
