"""The distillation loss as a criterion: what each weight matters to being like the teacher."""

import torch
import torch.nn.functional as F

from kdlab.check.core import Exercise, Property, Wrong, edit
from kdlab.check.observers.scores import shares
from kdlab.check.probing import distinct, numbers
from kdlab.check.remarks import IMPLICIT_DIM


def kd_importance(layer, inputs, teacher_logits, temperature):
    student = F.log_softmax(layer(inputs) / temperature, dim=1)
    teacher = F.softmax(teacher_logits / temperature, dim=1)
    loss = F.kl_div(student, teacher, reduction="batchmean")
    (gradient,) = torch.autograd.grad(loss, layer.weight)
    return (layer.weight * gradient).abs().detach()


def probes(generator):
    def case(n, features, classes, temperature, pruned=0):
        weight = distinct(generator, classes, features)
        weight *= 2 / weight.abs().max()
        weight = weight.round(decimals=2)
        weight.view(-1)[weight.abs().flatten().argsort()[:pruned]] = 0
        return (
            weight,
            numbers(generator, classes, scale=0.5),
            numbers(generator, n, features, scale=1.0),
            numbers(generator, n, classes, scale=2.0),
            temperature,
        )

    return [
        case(1, 2, 2, 2.0),
        case(2, 2, 2, 3.0),
        case(1, 2, 3, 2.0),
        case(3, 2, 3, 4),
        case(4, 3, 3, 0.5),
        case(3, 4, 3, 2.5, pruned=5),
        case(5, 2, 4, 1.0),
        case(16, 5, 6, 4.0),
    ]


def show(weight, bias, inputs, teacher_logits, temperature):
    return {
        "layer's weight": weight,
        "layer's bias": bias,
        "inputs": inputs,
        "teacher_logits": teacher_logits,
        "temperature": temperature,
    }


EXERCISE = Exercise(
    reference=kd_importance,
    probes=probes,
    observe=shares,
    show=show,
    points=3,
    remarks=(IMPLICIT_DIM,),
    bank=(
        Wrong(
            "gradient_alone",
            edit("(layer.weight * gradient)", "gradient"),
            "The score is the size of the gradient, whatever the size of the weight.",
            "Removing a weight moves it to zero: how far is that, and how steep is the way?",
        ),
        Wrong(
            "weight_alone",
            edit("(layer.weight * gradient)", "layer.weight"),
            "The score is the size of the weight: the teacher has no say in it.",
            "How steep is the loss where the weight stands?",
        ),
        Wrong(
            "signed",
            edit(".abs()", ""),
            "The score has a sign, so that weights with a large negative product would go first.",
            "A loss that changes much is a loss that changes much, in either direction.",
        ),
        Wrong(
            "squared",
            edit(".abs()", ".square()"),
            "The product is squared: the order of the weights is the same, but it is not the score that was asked for.",
            "How much would the loss change, to first order?",
            costs=1 / 3,
        ),
        Wrong(
            "squared_gradient",
            edit("(layer.weight * gradient).abs()", "gradient.square()"),
            "The score is the square of the gradient, whatever the size of the weight.",
            "Removing a weight moves it to zero: how far is that, and how steep is the way?",
        ),
        Wrong(
            "winning_class",
            edit('F.kl_div(student, teacher, reduction="batchmean")', "F.nll_loss(student, teacher.argmax(dim=1))"),
            "Only the teacher's winning class counts, as if it were a label.",
            "What the teacher says of the other classes is what distillation is about.",
        ),
        Wrong(
            "temperature_forgotten",
            edit("layer(inputs) / temperature", "layer(inputs)", "teacher_logits / temperature", "teacher_logits"),
            "The temperature is not used.",
            "Both distributions are compared at the same temperature.",
        ),
        Wrong(
            "student_not_softened",
            edit("layer(inputs) / temperature", "layer(inputs)"),
            "The student's distribution is not softened.",
            "Both distributions are compared at the same temperature.",
        ),
        Wrong(
            "teacher_not_softened",
            edit("teacher_logits / temperature", "teacher_logits"),
            "The teacher's distribution is not softened.",
            "Both distributions are compared at the same temperature.",
        ),
        Wrong(
            "sharpened",
            edit(
                "layer(inputs) / temperature",
                "layer(inputs) * temperature",
                "teacher_logits / temperature",
                "teacher_logits * temperature",
            ),
            "The logits are multiplied by the temperature, which sharpens what should be softened.",
            "A high temperature makes the classes more alike.",
        ),
        Wrong(
            "direction_swapped",
            edit("F.kl_div(student, teacher,", "F.kl_div(teacher.log(), student.exp(),"),
            "The divergence points the wrong way: the expectation is over the student's distribution.",
            "kl_div takes the distribution that is looked from as its second argument.",
        ),
        Wrong(
            "probabilities_for_log_probabilities",
            edit("F.log_softmax", "F.softmax"),
            "kl_div is given the student's probabilities where it expects log-probabilities.",
            "Look up what kl_div expects of its first argument.",
        ),
        Wrong(
            "log_target_forgotten",
            edit("teacher = F.softmax", "teacher = F.log_softmax"),
            "The teacher's log-probabilities are taken for probabilities.",
            "Either make probabilities of them, or tell kl_div that its target is logarithms.",
        ),
        Wrong(
            "softened_twice",
            edit("teacher_logits / temperature", "teacher_logits.softmax(dim=1) / temperature"),
            "The teacher's side has gone through a softmax twice, and is nearly flat.",
            "The temperature acts on logits.",
        ),
        Wrong(
            "over_the_batch",
            edit("layer(inputs) / temperature, dim=1", "layer(inputs) / temperature, dim=0",
                 "teacher_logits / temperature, dim=1", "teacher_logits / temperature, dim=0"),
            "The probabilities sum to one over the images, and not over the classes.",
            "Along which dimension do the classes lie?",
        ),
        Wrong(
            "logits_compared",
            edit('F.kl_div(student, teacher, reduction="batchmean")', "F.mse_loss(layer(inputs), teacher_logits)"),
            "The loss is the squared distance of the logits.",
            "Asked for is the divergence of two softened distributions.",
        ),
        Wrong(
            "sum_of_the_logits",
            edit("torch.autograd.grad(loss,", "torch.autograd.grad(layer(inputs).sum(),"),
            "The gradient is that of the logits' sum, in which the teacher does not occur.",
            "Of which number is the gradient wanted?",
        ),
        Wrong(
            "gradients_left",
            edit(
                "(gradient,) = torch.autograd.grad(loss, layer.weight)",
                "loss.backward()\n    gradient = layer.weight.grad",
            ),
            "The gradients stay in the layer, and the next step of an optimiser would add its own to them.",
            "There is a function that hands gradients back without storing them anywhere.",
            costs=1 / 3,
        ),
        Wrong(
            "still_attached",
            edit(".detach()", ""),
            "The scores still hang on the graph.",
            "Scores are for sorting, and nobody will derive them.",
            costs=1 / 3,
        ),
        Wrong(
            "of_the_bias",
            edit("torch.autograd.grad(loss, layer.weight)", "torch.autograd.grad(loss, layer.bias)",
                 "(layer.weight * gradient)", "(layer.bias * gradient)"),
            "The scores are those of the bias.",
            "One score for each weight is wanted, and none for the bias.",
        ),
        Wrong(
            "one_score_a_row",
            edit(".abs()", ".abs().sum(dim=1)"),
            "The scores are added up over each row.",
            "Weights are going to be removed one at a time.",
        ),
        Wrong(
            "layer_changed",
            edit("return (layer.weight * gradient).abs().detach()",
                 "layer.weight.data *= gradient\n    return layer.weight.abs().detach()"),
            "The layer's own weights are overwritten by the product.",
            "The product needs a tensor of its own.",
            costs=1 / 3,
        ),
    ),
    properties=(
        Property(
            "There has to be one score for each weight, in the weight's shape.",
            lambda o, weight, *_: o["scores, as shares of their sum"].shape == weight.shape,
        ),
        Property("The layer's weights have changed.", lambda o, *_: o["layer's weights as they were"]),
        Property("Gradients have stayed in the layer.", lambda o, *_: not o["gradients stay in the layer"]),
        Property("The layer can no longer be trained.", lambda o, *_: o["the layer can be trained"]),
        Property("The scores still hang on the graph.", lambda o, *_: not o["scores carry a graph"]),
        Property("A score is never negative.", lambda o, *_: (o["scores, as shares of their sum"] >= 0).all()),
        Property(
            "A weight of zero matters nothing: taking it out changes no loss.",
            lambda o, weight, *_: (o["scores, as shares of their sum"][weight == 0].abs() < 1e-5).all(),
        ),
    ),
)  # fmt: skip
