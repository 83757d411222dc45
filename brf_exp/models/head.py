"""A causal model's output layer by itself, so that logits of a few positions are made at a time."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# Relative difference (root mean square) from the model's own logits, in units of the number type's precision.
TOLERANCE_EPS = 16


class OutputHead:
    """Runs a model in two halves: everything below the output layer, and from there on.

    The second half is the model's own forward code with the lower half replaced by the hidden states at hand and the
    output projection by one into a buffer that is used again. Soft caps, scales and biases are therefore the model's.
    The projection is done in float32 (float64 in a float64 model), whatever the number type below it.
    """

    def __init__(self, model: "PreTrainedModel") -> None:
        import torch

        self._model = cast(Any, model)
        linear = self._model.get_output_embeddings()
        if type(linear) is not torch.nn.Linear:
            raise TypeError(f"its output layer is {type(linear).__name__}, not one matrix")
        trunk = self._model.base_model
        if trunk is model:
            raise TypeError("it has no part below its output layer")
        self._trunk = trunk
        self._places = [_place_of(model, trunk), _place_of(model, linear)]
        self._projection = _Projection(linear)

    def hidden_states(self, input_ids: "torch.Tensor") -> "torch.Tensor":
        """Output of everything below the output layer: (rows, tokens) to (rows, tokens, width)."""
        return self._trunk(input_ids=input_ids, use_cache=False).last_hidden_state

    def logits(self, hidden: "torch.Tensor") -> "torch.Tensor":
        """Logits (n, V) of hidden states (n, width). The next call overwrites them."""
        import torch

        given = torch.zeros((1, hidden.shape[0]), dtype=torch.long, device=hidden.device)
        with _replaced(self._places, [_given(hidden[None]), self._projection.module]):
            return self._model(input_ids=given, use_cache=False).logits[0]


def find_head(model: "PreTrainedModel", probe: "torch.Tensor") -> tuple[OutputHead | None, str]:
    """The model's output head where the two halves give the model's own logits on `probe`; else None and why."""
    import torch

    with torch.inference_mode():
        expected = model(input_ids=probe, use_cache=False).logits.flatten(0, 1).cpu().to(torch.float64)
        try:
            head = OutputHead(model)
            found = head.logits(head.hidden_states(probe).flatten(0, 1)).cpu().to(torch.float64)
        except Exception as error:  # whatever an unknown architecture does: its own forward pass still works
            return None, " ".join(str(error).split())[:200] or type(error).__name__
    if found.shape != expected.shape:
        return None, f"its halves give logits of shape {tuple(found.shape)}, itself {tuple(expected.shape)}"
    difference = float((found - expected).norm() / expected.norm().clamp_min(torch.finfo(torch.float64).tiny))
    if not difference <= TOLERANCE_EPS * torch.finfo(model.dtype).eps:
        return None, f"its halves give logits that differ by {difference:.1e} of their size"
    return head, ""


class _Projection:
    """The output matrix in float32 or wider, multiplying into a buffer of its own."""

    def __init__(self, linear: "torch.nn.Linear") -> None:
        import torch

        wide = torch.promote_types(linear.weight.dtype, torch.float32)
        # A CUDA matrix product reads half precision and adds up in float32; elsewhere the matrix itself is widened.
        self._is_mixed = linear.weight.device.type == "cuda" and linear.weight.dtype != wide
        self._dtype = wide
        self._matrix = linear.weight.detach().to(linear.weight.dtype if self._is_mixed else wide)
        self._bias = None if linear.bias is None else linear.bias.detach().to(wide)
        self._buffer: torch.Tensor | None = None
        self.module = _layer(self._project, self._matrix)

    def _project(self, hidden: "torch.Tensor") -> "torch.Tensor":
        import torch

        rows = hidden.flatten(0, -2).to(device=self._matrix.device, dtype=self._matrix.dtype)
        out = self._room(rows.shape[0])
        if self._is_mixed:
            torch.mm(rows, self._matrix.t(), out_dtype=self._dtype, out=out)
        else:
            torch.mm(rows, self._matrix.t(), out=out)
        if self._bias is not None:
            out += self._bias
        return out.view(*hidden.shape[:-1], -1)

    def _room(self, n_rows: int) -> "torch.Tensor":
        if self._buffer is None or self._buffer.shape[0] < n_rows:
            self._buffer = self._matrix.new_empty((n_rows, self._matrix.shape[0]), dtype=self._dtype)
        return self._buffer[:n_rows]


def _layer(function: Any, matrix: "torch.Tensor") -> "torch.nn.Module":
    """A function of one tensor where a model expects a layer with a matrix."""
    import torch

    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(matrix, requires_grad=False)

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return function(hidden)

    return Layer()


def _given(hidden: "torch.Tensor") -> "torch.nn.Module":
    """A lower half that answers with these hidden states, and with None to whatever else is asked of it."""
    import torch
    from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

    class Output(BaseModelOutputWithPastAndCrossAttentions):
        def __getattr__(self, name: str) -> None:
            if name.startswith("_"):
                raise AttributeError(name)

    class Given(torch.nn.Module):
        def forward(self, *args: Any, **kwargs: Any) -> Output:
            return Output(last_hidden_state=hidden)

    return Given()


def _place_of(model: "PreTrainedModel", module: "torch.nn.Module") -> tuple[Any, str]:
    """The parent of a module and the module's name there."""
    name = next(name for name, found in model.named_modules() if found is module)
    parent, _, own = name.rpartition(".")
    return model.get_submodule(parent), own


@contextlib.contextmanager
def _replaced(places: list[tuple[Any, str]], stand_ins: list[Any]) -> Iterator[None]:
    """Other modules in the places of a model's own, for the time of one call."""
    own = [getattr(parent, name) for parent, name in places]
    try:
        for (parent, name), stand_in in zip(places, stand_ins, strict=True):
            setattr(parent, name, stand_in)
        yield
    finally:
        for (parent, name), module in zip(places, own, strict=True):
            setattr(parent, name, module)
