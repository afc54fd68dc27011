"""Models that MLflow names: ``models:/…`` and ``runs:/…``, resolved and downloaded by MLflow itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import ModelError
from ..serving.model_files import MODEL_FOLDER
from .keeping import DISK_FULL, KeptModel, keep_download, saving, workspace

_REGISTERED = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/]+)|/(?P<version>[^/]+))(?P<inside>/.*)?")

# MLflow notes here which version it downloaded: the same bytes registered twice would get two digests
_DOWNLOAD_NOTE = "registered_model_meta"


def is_mlflow_uri(uri: str) -> bool:
    return uri.startswith(("models:/", "runs:/"))


def pin_version(uri: str) -> str:
    """``models:/name@alias``, ``models:/name/latest`` and ``models:/name/Stage`` as ``models:/name/<version>``; what
    names a version, a logged model or a run is returned as it is. Asks the registry.

    Raises ModelError when MLflow is not installed, knows no such model, or cannot be asked.
    """
    named = _REGISTERED.fullmatch(uri)
    if named is None:
        return uri
    stage = (named["version"] or "").lower()
    if stage.isdigit():
        return uri
    with _mlflow_errors(uri):
        from mlflow import MlflowClient

        client = MlflowClient()
        if named["alias"]:
            version = int(client.get_model_version_by_alias(named["name"], named["alias"]).version)
        else:
            # get_latest_versions() would do it in one call, and is deprecated together with stages
            version = max(
                (
                    int(candidate.version)
                    for candidate in client.search_model_versions(f"name='{named['name']}'")
                    if stage in {"latest", (candidate.current_stage or "").lower()}
                ),
                default=0,
            )
    if not version:
        raise ModelError(
            f"There is no model at {uri}: no version of {named['name']} fits {named['version']}.",
            "Register a version, or name one that exists: models:/name/version or models:/name@alias.",
        )
    return f"models:/{named['name']}/{version}{named['inside'] or ''}"


def fetch(uri: str, models_folder: Path, progress: Callable[[str], None]) -> KeptModel:
    """Download the model that ``uri`` names and keep it.

    MLflow's listings say nothing about whether a file has changed, so it is downloaded every time. Raises ModelError.
    """
    progress(f"fetching {uri}")
    with saving(models_folder), workspace(models_folder) as folder:
        content = folder / "content"
        content.mkdir()
        with _mlflow_errors(uri):
            from mlflow.artifacts import download_artifacts

            downloaded = Path(download_artifacts(artifact_uri=uri, dst_path=str(folder / "download")))
        if downloaded.is_dir():
            (downloaded / _DOWNLOAD_NOTE).unlink(missing_ok=True)
        target = content / (MODEL_FOLDER if downloaded.is_dir() else downloaded.name)
        downloaded.rename(target)
        return keep_download(target, models_folder, uri)


@contextmanager
def _mlflow_errors(uri: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        if error.name is not None and error.name.split(".")[0] == "mlflow":
            raise ModelError(
                f"{uri} needs MLflow, which is not installed here.", "Install it: pip install 'stackkit[mlflow]'"
            ) from error
        hint = f"Install what is missing: pip install {error.name}" if error.name else None
        raise ModelError(f"{uri} could not be fetched: {_first_line(error)}", hint) from error
    except Exception as error:  # MLflow lets through whatever its database and storage libraries raise
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise
        what = f"There is no model at {uri}" if _is_missing(error) else f"{uri} could not be fetched"
        raise ModelError(
            f"{what}: {_first_line(error)}",
            "Check the URI, and that MLFLOW_TRACKING_URI (and MLFLOW_REGISTRY_URI) point to your MLflow server.",
        ) from error


def _is_missing(error: Exception) -> bool:
    from mlflow.exceptions import MlflowException

    if isinstance(error, FileNotFoundError):
        return True
    return isinstance(error, MlflowException) and error.error_code in {"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"}


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
