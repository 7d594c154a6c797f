"""Turns the functions of `visagedb._api` into methods that look written by hand."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, get_args

F = TypeVar("F", bound=Callable[..., Any])


def as_method(run: F, function: Callable[..., Any], returns: Callable[[Any], Any]) -> F:
    """Gives a method the name, signature and docstring of the function behind it.

    Args:
        run: The method, with ``self`` first.
        function: The API function; its return type is ``Call[T]`` or alike.
        returns: Makes the method's return annotation of ``T``.
    """
    signature = inspect.signature(function)
    (answer,) = get_args(signature.return_annotation)
    self = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    run.__name__ = function.__name__
    run.__qualname__ = function.__name__
    run.__doc__ = function.__doc__
    run.__module__ = "visagedb"
    setattr(  # noqa: B010 (functions have no declared __signature__)
        run,
        "__signature__",
        signature.replace(
            parameters=[self, *signature.parameters.values()], return_annotation=returns(answer)
        ),
    )
    return run
