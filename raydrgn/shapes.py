"""Shape annotations: jaxtyping's, or stand-ins that mean nothing where it is not installed.

``raydrgn bench step`` must run with torch, NumPy, Typer and Rich alone; everything else installs
jaxtyping with raydrgn. Shapes are checked while the tests run and never in production.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxtyping import Bool, Complex, Float, Int
else:
    try:
        from jaxtyping import Bool, Complex, Float, Int
    except ModuleNotFoundError:

        class _Unchecked:
            def __class_getitem__(cls, item: Any) -> Any:
                return item[0]

        Bool = Complex = Float = Int = _Unchecked

__all__ = ["Bool", "Complex", "Float", "Int"]
