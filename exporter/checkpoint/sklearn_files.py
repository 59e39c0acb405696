"""scikit-learn objects from skops, joblib and pickle files."""

import io
import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

from exporter.errors import PreprocessingError, one_line

SKOPS = (".skops",)
PICKLES = (".joblib", ".pkl", ".pickle")

# Types that skops leaves to the user, and scikit-learn's encoders hold: they run nothing.
_HARMLESS = ("numpy.dtype",)


def load_estimator(path: Path, *, trust: bool) -> Any:
    """Return the scikit-learn object in a skops, joblib or pickle file.

    Raises PreprocessingError when loading it would run code that ``trust`` does not allow.
    """
    if not path.is_file():
        raise PreprocessingError(f"'{path}': no such file: expected a fitted transform. Check the path.")
    check_scikit_learn(str(path))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = _load_skops(path, trust=trust) if path.suffix in SKOPS else _load_pickle(path, trust=trust)
    for warning in caught:
        if "version" in str(warning.message):
            sys.stderr.write(f"warning: '{path}': {str(warning.message).strip().partition(chr(10))[0]}\n")
    return found


def _load_skops(path: Path, *, trust: bool) -> Any:
    try:
        import skops.io
    except ImportError:
        raise PreprocessingError(f"'{path}': skops is not installed. Run: pip install 'truecopy[tabular]'.") from None
    try:
        unknown = skops.io.get_untrusted_types(file=path)
        unknown = [name for name in unknown if name not in _HARMLESS]
        if unknown and not trust:
            raise PreprocessingError(
                f"'{path}': refused: loading it would import {', '.join(map(repr, unknown[:10]))}: expected "
                "scikit-learn's own types. If you trust its source, pass --trust."
            )
        return skops.io.load(path, trusted=[*unknown, *_HARMLESS])
    except PreprocessingError:
        raise
    except Exception as error:  # a foreign or damaged archive may raise anything
        raise PreprocessingError(f"'{path}': cannot be read as skops: {one_line(error)}. Save it again.") from error


def _load_pickle(path: Path, *, trust: bool) -> Any:
    if not trust:
        raise PreprocessingError(
            f"'{path}': refused: a joblib or pickle file runs code when it is loaded. Save it with skops "
            "(skops.io.dump), or, if you trust its source, pass --trust."
        )
    sys.stderr.write(f"'{path}': trusted: loading it runs the code that it names\n")
    try:
        import joblib

        return joblib.load(io.BytesIO(path.read_bytes()))
    except ImportError as error:
        raise PreprocessingError(
            f"'{path}': needs '{error.name}', which is not installed. Install it, or the truecopy[tabular] extra."
        ) from error
    except (pickle.UnpicklingError, EOFError, AttributeError, ValueError, KeyError, IndexError, TypeError) as error:
        raise PreprocessingError(f"'{path}': cannot be loaded: {one_line(error)}. Save it again.") from error


def check_scikit_learn(origin: str) -> None:
    """Raise PreprocessingError unless scikit-learn and skl2onnx are installed."""
    try:
        import skl2onnx  # noqa: F401
        import sklearn  # noqa: F401
    except ImportError as error:
        raise PreprocessingError(
            f"'{origin}': needs {error.name}, which is not installed. Run: pip install 'truecopy[tabular]'."
        ) from None
