"""What the operator's OpenAPI document describes, as schemathesis reads it."""

from __future__ import annotations

from typing import Any

import schemathesis
from schemathesis.core.result import Ok

from proofbook.operator.api import create_app


def operations_of(operator: Any) -> dict[tuple[str, str], Any]:
    """Return the operations of an operator's API, by verb and path."""
    schema = schemathesis.openapi.from_dict(create_app(operator).openapi_schema.to_schema())
    results = list(schema.get_all_operations())
    assert all(isinstance(result, Ok) for result in results), results
    return {
        (one.method.upper(), one.path): one for one in (result.ok() for result in results if isinstance(result, Ok))
    }


def check_answer(operation: Any, answer: Any) -> None:
    """Hold an answer against the document: its status stands there, and it is of that form."""
    documented = operation.definition.raw["responses"]
    assert str(answer.status_code) in documented, (operation.path, answer.status_code)
    operation.validate_response(answer)
