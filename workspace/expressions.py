"""The expressions of a task (rules, gates, tiers): read as SQL, checked part by part, and written anew.

They come from people and from other machines, so nothing of them is run as it stands: DuckDB parses the text, and
only what is known here is written into a query of its own. That leaves no way to files, other tables, settings,
subqueries, functions not listed, or work without end.

Names are those of dimensions, in any case and also where SQL has another use for the word. A score is its number,
a multi dimension its labels joined by "|" (see `list_contains`), all others their label. A dimension without a
label is null, and so is in general what is computed from it.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import duckdb

from workspace.errors import TaskError
from workspace.store import sql_string
from workspace.task import SEPARATOR, Dimension, Task

OVERALL = "overall"  # the name of the overall score in tiers
MAX_DEPTH = 60
MAX_WILDCARDS = 3  # in a pattern of LIKE: the time it takes grows with the length of the text to that power

_COMPARISONS = {
    "COMPARE_EQUAL": "=",
    "COMPARE_NOTEQUAL": "<>",
    "COMPARE_LESSTHAN": "<",
    "COMPARE_GREATERTHAN": ">",
    "COMPARE_LESSTHANOREQUALTO": "<=",
    "COMPARE_GREATERTHANOREQUALTO": ">=",
    "COMPARE_DISTINCT_FROM": "is distinct from",
    "COMPARE_NOT_DISTINCT_FROM": "is not distinct from",
}
_FUNCTIONS = (
    *("lower", "upper", "length", "trim", "contains", "starts_with", "prefix", "ends_with", "suffix"),
    *("abs", "least", "greatest", "round", "floor", "ceil", "coalesce", "nullif"),
)
_LIKES = {"~~": "like", "!~~": "not like", "~~*": "ilike", "!~~*": "not ilike"}
_SIGNS = ("+", "-", "*", "/", "%")
_TYPES = ("BOOLEAN", "DOUBLE", "INTEGER", "VARCHAR")
# Words that are themselves even where a dimension has their name; that one then needs quotes.
_WORDS = frozenset(
    (
        *("and", "or", "not", "in", "is", "null", "true", "false", "distinct", "from"),
        *("like", "ilike", "between", "case", "when", "then", "else", "end"),
    )
)
_TOKEN = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|[A-Za-z_]\w*|\s+|.", re.DOTALL)
_NUMBER = re.compile(r"-?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
_MORE = "it is more than one expression"


class _Refused(Exception):
    """Why an expression is not taken."""


def names_of(task: Task, *, overall: bool = False) -> dict[str, Dimension | None]:
    """What expressions may name: the dimensions, and None for the overall score."""
    names: dict[str, Dimension | None] = {dimension.name: dimension for dimension in task.dimensions}
    return names | {OVERALL: None} if overall and task.weights else names


def written(expression: str, names: Mapping[str, Dimension | None]) -> str:
    """The expression as SQL over columns with these names, in brackets. Raises TaskError saying what is wrong."""
    try:
        return _Writer(names).write(_parsed(expression, names))
    except _Refused as error:
        raise TaskError(f"{expression!r}: {error}.") from error


def columns_in(expression: str, names: Mapping[str, Dimension | None]) -> set[str]:
    """The names the expression uses. Raises TaskError as `written`."""
    writer = _Writer(names)
    try:
        writer.write(_parsed(expression, names))
    except _Refused as error:
        raise TaskError(f"{expression!r}: {error}.") from error
    return writer.used


def check(task: Task) -> None:
    """Raise TaskError naming the first expression of a task that cannot be taken, and why.

    Each is tried on every label of the dimensions, so that a comparison no label can stand is found here.
    """
    if task.weights and any(dimension.name == OVERALL for dimension in task.dimensions):
        raise TaskError(
            f"A dimension cannot be called '{OVERALL}' in a task with weights.", "Choose another name."
        )
    parts = [(f"rule {i}", rule.expression) for i, rule in enumerate(task.rules, start=1)]
    parts += [(f"gate {i}", gate.when) for i, gate in enumerate(task.gates, start=1)]
    names, with_overall = names_of(task), names_of(task, overall=True)
    tiers = [(f"tier '{name}'", expression) for name, expression in task.tiers.items()]
    if not parts and not tiers:
        return
    with _parser().cursor() as con:
        columns = ", ".join(_column(name, dimension) for name, dimension in with_overall.items())
        height = max((len(d.label_names) for d in task.dimensions), default=0)
        samples = f"(select {columns} from range({height + 1}) each(i))"
        for where, expression in [*parts, *tiers]:
            try:
                sql = _Writer(with_overall if where.startswith("tier") else names).write(
                    _parsed(expression, with_overall)
                )
                kinds = con.execute(
                    f"select typeof(result), result from (select {sql} as result from {samples})"
                ).fetchall()
                if any(kind not in ("BOOLEAN", '"NULL"') for kind, _ in kinds):
                    raise _Refused("it is neither true nor false")
            except (_Refused, duckdb.Error) as error:
                reason = str(error) if isinstance(error, _Refused) else _first_line(error)
                raise TaskError(
                    f"The expression of {where} cannot be used: {reason}.",
                    "Names are those of dimensions, and texts stand in single quotes.",
                    f"{expression}\n{error}",
                ) from error


def _column(name: str, dimension: Dimension | None) -> str:
    if dimension is None or dimension.kind == "score":
        numbers = [str(float(figure)) for figure in dimension.label_names] if dimension else ["0.0", "5.0"]
        values = ", ".join(numbers)
        return f"([{values}]::double[])[i + 1] as {quoted(name)}"
    labels = ", ".join(sql_string(label) for label in dimension.label_names)
    return f"([{labels}]::varchar[])[i + 1] as {quoted(name)}"


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].partition(": ")[2].rstrip(".").strip() or "SQL does not understand it"


@functools.cache
def _parser() -> duckdb.DuckDBPyConnection:
    """A database of nothing, without access to anything."""
    return duckdb.connect(":memory:", config={"enable_external_access": "false", "threads": "1"})


def _serialized(query: str) -> dict[str, Any]:
    with _parser().cursor() as con:
        found = con.execute("select json_serialize_sql(?::varchar)", [query]).fetchall()
    result: dict[str, Any] = json.loads(found[0][0])
    return result


def _parsed(expression: str, names: Mapping[str, Dimension | None]) -> dict[str, Any]:
    """The one expression there is, as DuckDB's parser says it."""
    try:
        tree = _serialized(f"select {_with_quotes(expression, names)}")
        plain = _serialized("select 1")
    except (duckdb.Error, RecursionError) as error:
        raise _Refused(
            _first_line(error) if isinstance(error, duckdb.Error) else "it is nested too deeply"
        ) from error
    if tree.get("error"):
        if tree.get("error_type") == "not implemented":
            raise _Refused(_MORE)
        message = str(tree.get("error_message", "")).strip() or "SQL does not understand it"
        raise _Refused(message.splitlines()[0].rstrip("."))
    ((select_list, rest), *more) = [_without_list(statement) for statement in tree["statements"]]
    if more or len(select_list) != 1 or rest != _without_list(plain["statements"][0])[1]:
        raise _Refused(_MORE)
    found: dict[str, Any] = select_list[0]
    return found


def _without_list(statement: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    node = dict(statement["node"])
    return node.pop("select_list", []), {**statement, "node": node}


def _with_quotes(expression: str, names: Mapping[str, Dimension | None]) -> str:
    """`constraint`, `task` and others mean something else in SQL; here they are dimensions, unless called."""
    tokens = _TOKEN.findall(expression)
    result = []
    for place, token in enumerate(tokens):
        rest = (later for later in tokens[place + 1 :] if not later.isspace())
        word = token.lower()
        if word in names and word not in _WORDS and next(rest, "") != "(":
            token = quoted(word)
        result.append(token)
    return "".join(result)


class _Writer:
    """Writes what is known of a parsed expression as SQL; refuses the rest."""

    def __init__(self, names: Mapping[str, Dimension | None]) -> None:
        self._names = names
        self._depth = 0
        self.used: set[str] = set()
        self._classes: dict[str, Callable[[dict[str, Any]], str]] = {
            "CONSTANT": self._constant,
            "COLUMN_REF": self._name,
            "COMPARISON": self._comparison,
            "BETWEEN": self._between,
            "CONJUNCTION": self._conjunction,
            "OPERATOR": self._operator,
            "CASE": self._case,
            "CAST": self._cast,
            "FUNCTION": self._function,
        }

    def write(self, node: dict[str, Any]) -> str:
        writer = self._classes.get(node["class"])
        if writer is None:
            raise _Refused(f"{str(node['class']).lower().replace('_', ' ')} cannot be used here")
        if self._depth >= MAX_DEPTH:
            raise _Refused("it is nested too deeply")
        self._depth += 1
        sql = f"({writer(node)})"
        self._depth -= 1
        return sql

    def _constant(self, node: dict[str, Any]) -> str:
        literal = node.get("literal", {})
        kind, text = literal.get("kind"), str(literal.get("text", ""))
        if kind == "STRING":
            return sql_string(text)
        if kind in ("NULL", "NULL_LITERAL"):
            return "null"
        if kind == "BOOLEAN" and text in ("true", "false"):
            return text
        if kind != "STRING" and _NUMBER.fullmatch(text):
            return text
        raise _Refused(f"{text or kind!s} is neither a text nor a number")

    def _name(self, node: dict[str, Any]) -> str:
        parts = [str(part) for part in node["column_names"]]
        name = parts[0].lower()
        if len(parts) > 1 or name not in self._names:
            raise _Refused(f"there is no dimension '{'.'.join(parts)}'")
        self.used.add(name)
        return quoted(name)

    def _comparison(self, node: dict[str, Any]) -> str:
        sign = _COMPARISONS.get(node["type"])
        if sign is None:
            raise _Refused(f"{node['type']} cannot be used here")
        left, right = node["left"], node["right"]
        if sign in ("=", "<>"):
            self._check_labels(left, [right])
            self._check_labels(right, [left])
        return f"{self.write(left)} {sign} {self.write(right)}"

    def _check_labels(self, node: dict[str, Any], others: list[dict[str, Any]]) -> None:
        """A label misspelled would make the comparison the same for all rows."""
        names = [str(name).lower() for name in node.get("column_names", ())]
        dimension = self._names.get(names[0]) if len(names) == 1 else None
        if dimension is None or dimension.kind not in ("single", "boolean"):
            return
        for other in others:
            literal = other.get("literal", {})
            if literal.get("kind") == "STRING" and literal.get("text") not in dimension.label_names:
                raise _Refused(f"'{dimension.name}' has no label '{literal.get('text')}'")

    def _between(self, node: dict[str, Any]) -> str:
        value, low, high = (self.write(node[part]) for part in ("input", "lower", "upper"))
        return f"{value} between {low} and {high}"

    def _conjunction(self, node: dict[str, Any]) -> str:
        word = {"CONJUNCTION_AND": " and ", "CONJUNCTION_OR": " or "}[node["type"]]
        return word.join(self.write(child) for child in node["children"])

    def _operator(self, node: dict[str, Any]) -> str:
        children = node["children"]
        parts = [self.write(child) for child in children]
        if node["type"] in ("COMPARE_IN", "COMPARE_NOT_IN"):
            self._check_labels(children[0], children[1:])
            word = "in" if node["type"] == "COMPARE_IN" else "not in"
            return f"{parts[0]} {word} ({', '.join(parts[1:])})"
        if node["type"] == "OPERATOR_COALESCE":
            return f"coalesce({', '.join(parts)})"
        shape = {
            "OPERATOR_NOT": "not {}",
            "OPERATOR_IS_NULL": "{} is null",
            "OPERATOR_IS_NOT_NULL": "{} is not null",
        }.get(node["type"])
        if shape is None or len(parts) != 1:
            raise _Refused(f"{str(node['type']).lower().replace('_', ' ')} cannot be used here")
        return shape.replace("{}", parts[0])

    def _case(self, node: dict[str, Any]) -> str:
        cases = " ".join(
            f"when {self.write(one['when_expr'])} then {self.write(one['then_expr'])}"
            for one in node["case_checks"]
        )
        return f"case {cases} else {self.write(node['else_expr'])} end"

    def _cast(self, node: dict[str, Any]) -> str:
        kind = str(node.get("type_expr", {}).get("type_name", "")).upper()
        if kind not in _TYPES:
            raise _Refused(f"there is no turning into {kind.lower() or 'that'} here")
        return f"try_cast({self.write(node['child'])} as {kind})"

    def _function(self, node: dict[str, Any]) -> str:
        name = str(node["function_name"]).lower()
        given = [argument["expression"] for argument in node["arguments"]]
        parts = [self.write(argument) for argument in given]
        if node.get("filter") or node.get("distinct") or node["order_bys"]["orders"] or node["schema"]:
            raise _Refused(f"{name} cannot be used in this way")
        if name in _LIKES and len(parts) == 2:
            pattern = given[1].get("literal", {})
            if pattern.get("kind") != "STRING" or str(pattern["text"]).count("%") > MAX_WILDCARDS:
                raise _Refused(f"LIKE takes a text with at most {MAX_WILDCARDS} %")
            return f"{parts[0]} {_LIKES[name]} {parts[1]}"
        if name in _SIGNS and len(parts) in (1, 2):
            return f"{parts[0]} {name} {parts[1]}" if len(parts) == 2 else f"{name} {parts[0]}"
        if name in ("list_contains", "list_has") and len(parts) == 2:
            return f"list_contains(string_split({parts[0]}, {sql_string(SEPARATOR)}), {parts[1]})"
        if name not in _FUNCTIONS:
            raise _Refused(f"there is no function {name} here")
        return f"{name}({', '.join(parts)})"
