"""Softened probabilities."""

import torch

from kdlab.check.core import Exercise, Property, Remark, Wrong, edit
from kdlab.check.probing import numbers
from kdlab.check.remarks import IMPLICIT_DIM, gives_an_array, gives_half_precision


def soften(logits, temperature):
    return torch.softmax(logits / temperature, dim=1)


def probes(generator):
    shapes = [(1, 2), (2, 2), (1, 1), (2, 3), (3, 2), (3, 3), (5, 4), (64, 10)]
    temperatures = [2.0, 3.0, 2.0, 4.0, 0.5, 1, 8.0, 4]
    cases = [(numbers(generator, *shape), t) for shape, t in zip(shapes, temperatures, strict=True)]
    return [*cases, (numbers(generator, 2, 3), 20.0), (numbers(generator, 2, 3) + 30, 2.0)]


def log_of_it(logits, temperature):
    return torch.log_softmax(logits / temperature, dim=1)


def softened_afterwards(logits, temperature):
    return torch.softmax(logits, dim=1) / temperature


def softened_afterwards_and_normalised(logits, temperature):
    return torch.softmax(torch.softmax(logits, dim=1) / temperature, dim=1)


def over_everything(logits, temperature):
    return torch.softmax((logits / temperature).flatten(), dim=0).reshape(logits.shape)


def divided_by_the_sum(logits, temperature):
    scaled = logits / temperature
    return scaled / scaled.sum(dim=1, keepdim=True)


def not_normalised(logits, temperature):
    return torch.exp(logits / temperature)


def one_hot(logits, temperature):
    return torch.nn.functional.one_hot(logits.argmax(dim=1), logits.shape[1]).float()


def power_of_the_softmax(logits, temperature):
    return torch.softmax(logits, dim=1) ** (1 / temperature)


EXERCISE = Exercise(
    reference=soften,
    probes=probes,
    points=2,
    bank=(
        Wrong(
            "multiplied",
            edit("logits / temperature", "logits * temperature"),
            "The temperature multiplies the logits, so a high temperature sharpens the distribution.",
            "A hot distribution is a flat one: what has to happen to the distances between the logits?",
        ),
        Wrong(
            "no_temperature",
            edit("logits / temperature", "logits"),
            "The temperature has no effect: this is the plain softmax.",
            "Try the function with temperature 1 and with temperature 100; they should not agree.",
        ),
        Wrong(
            "over_the_batch",
            edit("dim=1", "dim=0"),
            "The probabilities sum to one over the images instead of over the classes.",
            "Rows are images, columns are classes: along which dimension do the classes lie?",
        ),
        Wrong(
            "log_of_it",
            log_of_it,
            "These are the logarithms of the probabilities.",
            "Probabilities are never negative; log-probabilities are for the loss, later.",
        ),
        Wrong(
            "softened_afterwards",
            softened_afterwards,
            "The temperature is applied after the softmax, so the rows no longer sum to one.",
            "The temperature acts on the logits, before they become probabilities.",
        ),
        Wrong(
            "softened_afterwards_and_normalised",
            softened_afterwards_and_normalised,
            "A softmax is taken twice, and the temperature acts on probabilities, not on logits.",
            "One softmax is enough if the temperature has done its work before it.",
        ),
        Wrong(
            "power_of_the_softmax",
            power_of_the_softmax,
            "The temperature is applied after the softmax, as a power, and the rows no longer sum to one.",
            "A power does soften, but who makes the row a distribution again? Softening the logits saves that step.",
        ),
        Wrong(
            "rounded_down",
            edit("logits / temperature", "logits // temperature"),
            "The division by the temperature rounds down.",
            "Two slashes give whole numbers; close logits become equal.",
        ),
        Wrong(
            "square_root",
            edit("/ temperature", "/ temperature**0.5"),
            "The logits are divided by the square root of the temperature.",
            "That scaling belongs to attention; here the temperature acts as it is.",
        ),
        Wrong(
            "squared",
            edit("/ temperature", "/ temperature**2"),
            "The logits are divided by the square of the temperature.",
            "The square appears in the loss, not in the probabilities.",
        ),
        Wrong(
            "over_everything",
            over_everything,
            "The whole table sums to one; every image needs a distribution of its own.",
            "Sum a single row of your result.",
        ),
        Wrong(
            "divided_by_the_sum",
            divided_by_the_sum,
            "The scaled logits are divided by their sum, without the exponential.",
            "A logit may be negative, a probability may not: what makes all of them positive?",
        ),
        Wrong(
            "not_normalised",
            not_normalised,
            "These exponentials are not normalised.",
            "Compare the sum of each row with what probabilities sum to.",
        ),
        Wrong(
            "softmin",
            edit("logits / temperature", "-logits / temperature"),
            "The sign is turned, so the least likely class gets the largest probability.",
            "A larger logit means a likelier class.",
        ),
        Wrong(
            "one_hot",
            one_hot,
            "All probability sits on the largest logit.",
            "The point of soft targets is what the other classes get.",
        ),
        Wrong(
            "sigmoid",
            edit("torch.softmax(logits / temperature, dim=1)", "torch.sigmoid(logits / temperature)"),
            "A sigmoid looks at each class by itself, so the rows do not sum to one.",
            "The classes exclude each other: they have to share one unit of probability.",
        ),
    ),
    properties=(
        Property("Each row has to sum to one.", lambda output, *_: bool(((output.sum(dim=1) - 1).abs() < 1e-3).all())),
        Property(
            "Probabilities lie between zero and one.", lambda output, *_: bool(((output >= 0) & (output <= 1)).all())
        ),
    ),
    remarks=(
        Remark(
            "For logits as large as 1000 it gives NaN: exp() overflows. Subtract the largest logit of each row first, "
            "or use what torch has.",
            ((torch.tensor([[1000.0, 998.0]]), 2.0),),
        ),
        IMPLICIT_DIM,
        Remark("It returns an array; with a tensor a student could be trained on it.", deserved=gives_an_array),
        Remark(
            "It returns half precision, which keeps three digits; the logits came with seven.",
            deserved=gives_half_precision,
        ),
    ),
)
