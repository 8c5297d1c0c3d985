"""Small mistakes made in a function by walking its syntax tree, one at a time.

`mutants(function)` gives every mutant as (what changed, function). What changed reads "old line => new line".
"""

import ast
import copy
import difflib
import inspect
import signal
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow)
COMPARISONS = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)
OPPOSITES = {ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In}
COMMUTATIVE = (ast.Add, ast.Mult, ast.BitAnd, ast.BitOr, ast.BitXor)
SIBLINGS = [
    {"softmax", "log_softmax", "sigmoid"},
    {"mean", "sum", "median", "max", "min"},
    {"eval", "train"},
    {"argmax", "argmin"},
    {"zeros", "ones", "empty"},
    {"exp", "log", "sqrt", "abs"},
    {"std", "var"},
    {"floor", "ceil", "round"},
    {"batchmean", "mean", "sum", "none"},
    {"topk", "sort"},
    {"ppf", "cdf"},
    {"no_grad", "enable_grad"},
]


def mutants(function: Callable) -> Iterator[tuple[str, Callable]]:
    """Every single mutation of a function's source, without repetitions."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    _without_docstring(tree.body[0])
    original = ast.unparse(tree)
    names = _names(tree.body[0])
    seen = {original}
    for node in list(ast.walk(tree)):
        for replacement in _alternatives(node, names):
            mutant = _replaced(tree, node, replacement)
            try:
                source = ast.unparse(mutant)
                code = compile(source, "<mutant>", "exec")
            except (SyntaxError, ValueError):
                continue
            if source in seen:
                continue
            seen.add(source)
            namespace = dict(inspect.unwrap(function).__globals__)
            exec(code, namespace)
            yield _change(original, source), namespace[function.__name__]


class TookTooLong(BaseException):
    """A mutant that would run for ever."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TookTooLong in the block after so many seconds (main thread, not on Windows)."""

    def stop(*_):
        raise TookTooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _alternatives(node: ast.AST, names: list[str]) -> Iterator:
    """What could stand in place of a node: a node, or a list of statements."""
    by_type = {
        ast.BinOp: _binary,
        ast.BoolOp: _boolean,
        ast.Compare: _comparison,
        ast.Constant: _constant,
        ast.Call: _call,
        ast.Subscript: _subscript,
        ast.Slice: _slice,
        ast.Return: _return,
        ast.AugAssign: _augmented,
        ast.FunctionDef: _undecorated,
        ast.For: _loop,
        ast.Try: _try,
        ast.comprehension: _comprehension,
        ast.Tuple: _sequence,
        ast.List: _sequence,
    }
    if type(node) in by_type:
        yield from by_type[type(node)](node)
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.IfExp):
        yield from (_with(node, body=node.orelse, orelse=node.body), node.body, node.orelse)
    elif isinstance(node, ast.If | ast.While):
        yield _with(node, test=ast.UnaryOp(ast.Not(), node.test))
        yield from (_with(node, test=ast.Constant(value)) for value in (True, False) if isinstance(node, ast.If))
    elif isinstance(node, ast.With):
        yield node.body
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in names:
        yield from (_with(node, id=name) for name in names if name != node.id)
    if isinstance(node, ast.stmt) and not isinstance(node, ast.FunctionDef | ast.Pass | ast.Return):
        yield ast.Pass()


def _binary(node):
    yield from (_with(node, op=op()) for op in ARITHMETIC if not isinstance(node.op, op))
    yield from (node.left, node.right)
    if not isinstance(node.op, COMMUTATIVE):
        yield _with(node, left=node.right, right=node.left)


def _boolean(node):
    yield _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
    yield from node.values


def _comparison(node):
    for at, op in enumerate(node.ops):
        others = [OPPOSITES[type(op)]] if type(op) in OPPOSITES else [o for o in COMPARISONS if not isinstance(op, o)]
        yield from (_with(node, ops=[*node.ops[:at], other(), *node.ops[at + 1 :]]) for other in others)


def _constant(node):
    value = node.value
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif value is None:
        yield ast.Constant(0)
    elif isinstance(value, int):
        yield from (ast.Constant(other) for other in (value + 1, value - 1, 0, -value))
    elif isinstance(value, float):
        yield from (ast.Constant(other) for other in (2 * value, value + 0.01, 0.0, 1.0, -value))
    elif isinstance(value, str):
        yield from (ast.Constant(other) for other in sorted(_siblings(value) or {"not this"}))


def _call(node):
    arguments = node.args
    for at, argument in enumerate(arguments):
        yield argument
        yield _with(node, args=arguments[:at] + arguments[at + 1 :])
        if at + 1 < len(arguments):
            yield _with(node, args=[*arguments[:at], arguments[at + 1], argument, *arguments[at + 2 :]])
    for at in range(len(node.keywords)):
        yield _with(node, keywords=node.keywords[:at] + node.keywords[at + 1 :])
    if isinstance(node.func, ast.Attribute):
        yield node.func.value
        yield from (_with(node, func=_with(node.func, attr=name)) for name in sorted(_siblings(node.func.attr)))
    elif isinstance(node.func, ast.Name):
        yield from (_with(node, func=_with(node.func, id=name)) for name in sorted(_siblings(node.func.id)))


def _subscript(node):
    if isinstance(node.ctx, ast.Load):
        yield node.value


def _slice(node):
    yield from (
        _with(node, **{bound: None}) for bound in ("lower", "upper", "step") if getattr(node, bound) is not None
    )


def _return(node):
    yield ast.Return(None)
    if node.value is not None:
        parts = [part for part in ast.walk(node.value) if isinstance(part, ast.expr) and part is not node.value]
        yield from (ast.Return(part) for part in parts)


def _augmented(node):
    yield from (_with(node, op=op()) for op in ARITHMETIC if not isinstance(node.op, op))
    yield ast.Assign([node.target], node.value)


def _undecorated(node):
    for at in range(len(node.decorator_list)):
        yield _with(node, decorator_list=node.decorator_list[:at] + node.decorator_list[at + 1 :])


def _loop(node):
    yield _with(node, body=[*node.body, ast.Break()])


def _try(node):
    yield node.body
    yield from (_with(node, **{part: [ast.Pass()]}) for part in ("body", "finalbody") if getattr(node, part))


def _comprehension(node):
    yield from (_with(node, ifs=node.ifs[:at] + node.ifs[at + 1 :]) for at in range(len(node.ifs)))


def _sequence(node):
    if not isinstance(node.ctx, ast.Load):
        return
    items = node.elts
    for at in range(len(items)):
        yield _with(node, elts=items[:at] + items[at + 1 :])
        if at + 1 < len(items):
            yield _with(node, elts=[*items[:at], items[at + 1], items[at], *items[at + 2 :]])


def _siblings(name: str) -> set[str]:
    return set().union(*(group for group in SIBLINGS if name in group)) - {name}


def _with(node: ast.AST, **fields) -> ast.AST:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _replaced(tree: ast.AST, target: ast.AST, replacement: ast.AST | list) -> ast.AST:
    class Replace(ast.NodeTransformer):
        def visit(self, node):
            return copy.deepcopy(replacement) if node is marked[0] else self.generic_visit(node)

    memo: dict = {}
    duplicate = copy.deepcopy(tree, memo)
    marked = [memo[id(target)]]
    return ast.fix_missing_locations(Replace().visit(duplicate))


def _names(function: ast.FunctionDef) -> list[str]:
    """Parameters and local variables."""
    parameters = [argument.arg for argument in function.args.args + function.args.kwonlyargs]
    stored = [n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    return list(dict.fromkeys([*parameters, *stored]))


def _without_docstring(function: ast.FunctionDef) -> None:
    if ast.get_docstring(function) is not None:
        function.body = function.body[1:]


def _change(original: str, mutant: str) -> str:
    old, new = original.splitlines(), mutant.splitlines()
    lines = list(difflib.ndiff(old, new))
    removed = [line[2:].strip() for line in lines if line.startswith("- ")]
    added = [line[2:].strip() for line in lines if line.startswith("+ ")]
    return f"{'; '.join(removed)} => {'; '.join(added) or 'nothing'}"
