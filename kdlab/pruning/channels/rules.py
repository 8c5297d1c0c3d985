"""What each torch function does to channels. A function without a rule is refused, by name."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from kdlab.pruning.channels import tags
from kdlab.pruning.channels.book import FIXED
from kdlab.pruning.channels.trace import Call, Tracer, tensors_in

Rule = Callable[[Tracer, Call], None]


def rule_for(call: Call, tracer: Tracer) -> Rule:
    """Return the rule for a call."""
    if call.name in RULES:
        return RULES[call.name]
    if not any(tracer.tags_of(value, call).any() for value in call.tensors):
        return constant
    raise call.refuse(
        "no rule says what it does to them (expected layers, batch norm, activations, pooling, sums, products, "
        "concatenation, reshaping). Write this part with those, or prune the network with masks"
    )


# -- layers that make and read channels --------------------------------------------------------------------------------


def convolution(tracer: Tracer, call: Call) -> None:
    picture, weight, bias = call.args[0], call.argument(1, "weight"), call.argument(2, "bias")
    transposed = "transpose" in call.name
    groups = call.argument(6, "groups", 1)  # the seventh argument of both kinds
    axis = picture.ndim - (weight.ndim - 2) - 1
    name, width = _name(tracer, call, weight), call.output.shape[axis]
    inputs = tracer.vector(call, picture, axis)
    if tracer.is_depthwise(name.rpartition(".")[0], groups, len(inputs)):
        outputs = _depthwise(tracer, call, name, inputs, width)
    elif transposed:
        outputs = _dense(tracer, call, name, inputs, width, groups, out_axis=1, in_axis=0)
    else:
        outputs = _dense(tracer, call, name, inputs, width, groups, out_axis=0, in_axis=1)
    if bias is not None:
        tracer.follows(_name(tracer, call, bias), 0, outputs, call)
    tracer.tag(call.output, tags.along(outputs, axis, call.output.ndim))


def linear(tracer: Tracer, call: Call) -> None:
    value, weight, bias = call.args[0], call.argument(1, "weight"), call.argument(2, "bias")
    inputs = tracer.vector(call, value, -1)
    outputs = _dense(tracer, call, _name(tracer, call, weight), inputs, weight.shape[0], 1, out_axis=0, in_axis=1)
    if bias is not None:
        tracer.follows(_name(tracer, call, bias), 0, outputs, call)
    tracer.tag(call.output, tags.along(outputs, -1, call.output.ndim))


def _dense(tracer, call, name: str, inputs: Tensor, width: int, groups: int, out_axis: int, in_axis: int) -> Tensor:
    """Number the output. With groups, channels at the same place in each group go together, so groups stay equal."""
    layer, trace = name.rpartition(".")[0], tracer.trace
    if layer not in trace.made:
        trace.makers[layer], trace.readers[layer] = (name, out_axis), (name, in_axis)
        trace.made[layer] = tracer.book.fresh(name, width)
    outputs = trace.made[layer]
    for numbers in (inputs, outputs) if groups > 1 else ():
        blocks = numbers.unflatten(0, (groups, -1))
        tracer.book.couple(blocks[:1].expand_as(blocks), blocks, call.node)
    # the second axis of the weight is shared by all groups: the first group's numbers stand for every group's
    stored = {out_axis: outputs, in_axis: inputs}
    for axis, numbers in stored.items():
        tracer.follows(name, axis, numbers[: len(numbers) // groups] if axis == 1 else numbers, call)
    return outputs


def _depthwise(tracer: Tracer, call: Call, name: str, inputs: Tensor, width: int) -> Tensor:
    """One filter (or several) for each channel: it lives and dies with the channel."""
    multiplier = width // len(inputs)
    if multiplier > 1 and "transpose" in call.name:
        raise call.refuse("a transposed depthwise convolution with several filters a channel has no rule")
    outputs = inputs.repeat_interleave(multiplier)
    tracer.follows(name, 0, outputs, call)
    tracer.trace.passers[name.rpartition(".")[0]] = (name, 0)
    return outputs


def _name(tracer: Tracer, call: Call, value: Tensor) -> str:
    if id(value) not in tracer.names:
        raise call.refuse("its weight is computed in the forward pass; expected a parameter of the layer")
    return tracer.names[id(value)]


# -- one number for each channel ---------------------------------------------------------------------------------------


def per_channel(tracer: Tracer, call: Call) -> None:
    """Batch norm, PReLU: their parameters have an entry for each channel."""
    picture, *own = call.tensors
    numbers = tracer.vector(call, picture, 1)
    for value in own:
        if value.numel() > 1 or len(numbers) == 1:
            name = _name(tracer, call, value)
            tracer.follows(name, 0, numbers, call)
            layer, _, kind = name.rpartition(".")
            if kind == "weight" or layer not in tracer.trace.passers:
                tracer.trace.passers[layer] = (name, 0)
    tracer.tag(call.output, tags.along(numbers, 1, call.output.ndim))


def keeping(why: str) -> Rule:
    """Make the rule of functions that mix channels, so that all channels they see must stay."""

    def rule(tracer: Tracer, call: Call) -> None:
        for value in call.tensors:
            if id(value) not in tracer.names:
                tracer.book.keep(tracer.tags_of(value, call), f"{call.node} {why}")
        constant(tracer, call)

    return rule


def constant(tracer: Tracer, call: Call) -> None:
    """Tag the result as having no removable channels."""
    for value in tensors_in(call.output):
        tracer.tag(value, tags.fixed(value))


# -- element by element ------------------------------------------------------------------------------------------------


def elementwise(tracer: Tracer, call: Call) -> None:
    """Couple the channels that meet."""
    if not call.tensors:
        return constant(tracer, call)
    result = call.output
    operands = [_aligned(tracer, call, value, result.ndim) for value in call.tensors]
    together = operands[0]
    for operand in operands[1:]:
        together = _meet(tracer, call, together, operand)
    tracer.tag(result, together[0])
    if call.name == "add":
        tracer.note_residual(call)


def _aligned(tracer: Tracer, call: Call, value: Tensor, ndim: int) -> tuple[Tensor, tuple[int, ...]]:
    """Return an operand's tags and shape, with the axes in front that broadcasting adds."""
    extra = (1,) * (ndim - value.ndim)
    numbers = tracer.tags_of(value, call)
    return numbers.view(*extra, *numbers.shape), (*extra, *value.shape)


def _meet(tracer: Tracer, call: Call, a, b):
    """Join two operands, each (tags, shape); one that is spread over the other's channels is not one of them."""
    (a_tags, a_shape), (b_tags, b_shape) = a, b
    shape = tuple(max(pair) for pair in zip(a_shape, b_shape, strict=True))
    a_spread = any(a_shape[axis] == 1 for axis in tags.varying(b_tags))
    b_spread = any(b_shape[axis] == 1 for axis in tags.varying(a_tags))
    for spread, numbers in ((a_spread, a_tags), (b_spread, b_tags)):
        if spread:
            tracer.book.keep(numbers, f"{call.node} spreads them over other channels")
    if a_spread and b_spread:
        return a_tags.new_zeros((1,) * len(shape)), shape
    if a_spread or b_spread:
        return (b_tags if a_spread else a_tags), shape
    a_tags, b_tags = torch.broadcast_tensors(a_tags, b_tags)
    tracer.book.couple(a_tags, b_tags, call.node)
    return a_tags, shape


# -- over positions ----------------------------------------------------------------------------------------------------


def reduction(tracer: Tracer, call: Call) -> None:
    """Mean, sum, maximum, softmax, …: over positions harmless; over channels, they must stay."""
    value = call.args[0]
    numbers = tracer.tags_of(value, call)
    axes = call.argument(1, "dim", call.kwargs.get("axis"))
    if isinstance(axes, Tensor):  # torch.maximum(a, b) under the name max
        return elementwise(tracer, call)
    axes = range(value.ndim) if axes is None else [axes] if isinstance(axes, int) else axes
    axes = {axis % value.ndim for axis in axes}
    if axes & set(tags.varying(numbers)):
        tracer.book.keep(numbers, f"{call.node} mixes them")
        return constant(tracer, call)
    for result in tensors_in(call.output):
        left = [size for axis, size in enumerate(numbers.shape) if result.ndim == value.ndim or axis not in axes]
        tracer.tag(result, numbers.reshape(left) if len(left) == result.ndim else tags.fixed(result))


def spatial(tracer: Tracer, call: Call) -> None:
    """Pooling and resizing act on the axes after the channels."""
    value = call.args[0]
    numbers = tracer.tags_of(value, call)
    count = int(call.name[-2]) if call.name[-2:] in ("1d", "2d", "3d") else value.ndim - 2
    if any(axis >= value.ndim - count for axis in tags.varying(numbers)):
        raise call.refuse("its channels lie along an axis that it pools")
    for result in tensors_in(call.output):
        tracer.tag(result, numbers)


def pad(tracer: Tracer, call: Call) -> None:
    """Padding with constants adds fixed channels where it pads channels."""
    value, amounts = call.args[0], call.argument(1, "pad")
    numbers = tracer.tags_of(value, call)
    padded = {value.ndim - 1 - i // 2 for i, amount in enumerate(amounts) if amount}
    if padded & set(tags.varying(numbers)):
        if call.argument(2, "mode", "constant") != "constant":
            raise call.refuse("it repeats channels")
        numbers = tags.pack(F.pad(tags.spread(numbers, value), amounts, value=FIXED))
    tracer.tag(call.output, numbers)


# -- moving elements about ---------------------------------------------------------------------------------------------


def movement(tracer: Tracer, call: Call) -> None:
    """Transpose, expand, repeat, …: do the same to the tags."""
    value, *rest = call.args
    moved = call.function(tags.spread(tracer.tags_of(value, call), value), *rest, **call.kwargs)
    tracer.tag(call.output, tags.pack(moved))


def reshape(tracer: Tracer, call: Call) -> None:
    """Flatten, view, …: one axis of channels that is split into several keeps its outer parts equal."""
    value = call.args[0]
    numbers = tags.pack(tags.spread(tracer.tags_of(value, call), value).reshape(call.output.shape))
    tracer.tag(call.output, _equal_parts(tracer, call, numbers))


def _equal_parts(tracer: Tracer, call: Call, numbers: Tensor) -> Tensor:
    first = numbers
    for axis in tags.varying(numbers)[:-1]:
        first = first.narrow(axis, 0, 1)
    tracer.book.couple(first.expand_as(numbers), numbers, call.node)
    return numbers


def channel_shuffle(tracer: Tracer, call: Call) -> None:
    value, groups = call.args[0], call.argument(1, "groups")
    numbers = tracer.vector(call, value, 1).unflatten(0, (groups, -1))
    numbers = _equal_parts(tracer, call, numbers).transpose(0, 1).flatten()
    tracer.tag(call.output, tags.along(numbers, 1, value.ndim))


def concatenation(tracer: Tracer, call: Call) -> None:
    values = list(call.argument(0, "tensors"))
    axis = call.argument(1, "dim", 0) % values[0].ndim
    parts = [tracer.tags_of(value, call) for value in values]
    shape = [max(sizes) for sizes in zip(*(part.shape for part in parts), strict=True)]
    for i, value in enumerate(values):
        shape[axis] = value.shape[axis]
        parts[i] = parts[i].expand(shape)
    tracer.tag(call.output, tags.pack(torch.cat(parts, axis)))


def stacking(tracer: Tracer, call: Call) -> None:
    values, axis = list(call.argument(0, "tensors")), call.argument(1, "dim", 0)
    parts = [tags.spread(tracer.tags_of(value, call), value) for value in values]
    tracer.tag(call.output, tags.pack(torch.stack(parts, axis)))


def pieces(tracer: Tracer, call: Call) -> None:
    """Chunk and split: equal pieces stay equal; channels cut into unequal pieces stay."""
    value, *rest = call.args
    numbers = tracer.tags_of(value, call)
    axis = (call.kwargs.get("dim", rest[1] if len(rest) > 1 else 0)) % value.ndim
    parts = call.function(tags.spread(numbers, value), *rest, **call.kwargs)
    if axis in tags.varying(numbers):
        if len({part.shape for part in parts}) > 1:
            tracer.book.keep(numbers, f"{call.node} cuts them into unequal pieces")
        else:
            for part in parts[1:]:
                tracer.book.couple(tags.pack(parts[0]), tags.pack(part), call.node)
    for result, part in zip(call.output, parts, strict=True):
        tracer.tag(result, tags.pack(part))


def selection(tracer: Tracer, call: Call) -> None:
    """Indexing and slicing: channels picked by number stay, with those that were not picked."""
    value, *rest = call.args
    numbers = tracer.tags_of(value, call)
    picked = call.function(tags.spread(numbers, value), *rest, **call.kwargs)
    results = tensors_in(call.output)
    kept = [tags.pack(part) for part in tensors_in(picked)]
    if any(len(part.unique()) < len(numbers.unique()) for part in kept):
        tracer.book.keep(numbers, f"{call.node} picks some of them by number")
    for result, part in zip(results, kept, strict=True):
        tracer.tag(result, part)


def _named(rule: Rule, names: str) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


RULES: dict[str, Rule] = {
    **_named(convolution, "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d"),
    **_named(linear, "linear"),
    **_named(per_channel, "batch_norm instance_norm prelu"),
    **_named(keeping("normalises over them"), "layer_norm group_norm rms_norm local_response_norm normalize norm"),
    **_named(
        keeping("multiplies them with one another"),
        "multi_head_attention_forward scaled_dot_product_attention matmul bmm baddbmm einsum rmatmul",
    ),
    **_named(
        elementwise,
        "add sub mul div true_divide pow maximum minimum where lerp addcmul addcdiv masked_fill fmod remainder "
        "eq ne lt le gt ge logical_and logical_or logical_not bitwise_not rsub rdiv rtruediv rpow truediv neg abs exp "
        "log log1p expm1 sqrt rsqrt square reciprocal sin cos tanh sigmoid erf clamp clip clamp_min clamp_max sign "
        "round floor ceil nan_to_num relu relu6 hardtanh leaky_relu elu selu celu gelu silu mish softplus softsign "
        "hardswish hardsigmoid logsigmoid tanhshrink hardshrink softshrink threshold rrelu dropout dropout1d dropout2d "
        "dropout3d alpha_dropout feature_alpha_dropout feature_dropout clone detach contiguous to float double half "
        "bfloat16 type type_as cpu cuda data requires_grad zeros_like ones_like full_like empty_like rand_like "
        "randn_like alias",
    ),
    **_named(
        reduction,
        "mean sum amax amin max min std var prod softmax log_softmax logsumexp argmax argmin any all cumsum cumprod",
    ),
    **_named(
        spatial,
        "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d "
        "adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d lp_pool1d lp_pool2d "
        "interpolate upsample",
    ),
    **_named(pad, "pad"),
    **_named(
        movement,
        "permute transpose swapaxes swapdims movedim moveaxis t T mT H expand expand_as repeat tile flip roll rot90 "
        "repeat_interleave pixel_shuffle pixel_unshuffle",
    ),
    **_named(reshape, "view reshape flatten unflatten squeeze unsqueeze ravel view_as reshape_as"),
    **_named(channel_shuffle, "channel_shuffle native_channel_shuffle"),
    **_named(concatenation, "cat concat concatenate"),
    **_named(stacking, "stack"),
    **_named(pieces, "chunk split tensor_split split_with_sizes"),
    **_named(selection, "getitem select narrow index_select unbind"),
    **_named(constant, "new_zeros new_ones new_full new_empty"),
}
