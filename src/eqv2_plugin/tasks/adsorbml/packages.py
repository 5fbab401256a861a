"""The optional packages that AdsorbML needs."""

from __future__ import annotations

INSTALL = "pip install 'eqv2-plugin[catalysis]'"


class MissingCatalysisError(ImportError):
    """The optional packages are not installed."""

    def __init__(self, error: ImportError) -> None:
        super().__init__(f"AdsorbML needs packages that are not installed ({error}): {INSTALL}")


def check_packages() -> None:
    """See that fairchem-data-oc, and what fairchem's AdsorbML imports, are there.

    Raises:
        MissingCatalysisError: one of them is not.
    """
    try:
        import fairchem.core.components.calculate.recipes.adsorbml
        import fairchem.data.oc.core  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingCatalysisError(error) from error
