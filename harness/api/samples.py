"""Generated images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image


class Samples:
    """Images drawn by a generator. In Jupyter they render as a grid, and NumPy converts them to an array.

    Attributes:
        images: uint8 [N, H, W], in colour [N, C, H, W]; 0 is black.
        columns: Number of images in a row of the grid.
    """

    def __init__(self, images: npt.NDArray[np.uint8], columns: int = 10) -> None:
        self.images, self.columns = images, columns

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"Samples({len(self)} images, {self.images.dtype} {list(self.images.shape)})"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        import numpy as np

        return np.array(self.images, dtype=dtype) if copy or dtype else self.images

    def grid(self) -> Image:
        """Return the images in rows of `columns`, as one picture."""
        from PIL import Image

        return Image.fromarray(self._picture())

    def save(self, path: str | Path) -> Path:
        """Write the images to a file.

        Args:
            path: FILE.png, a grid; or FILE.npz with the array `images`.

        Returns:
            The path.

        Raises:
            HarnessError: The name has another suffix, or the file cannot be written.
        """
        import numpy as np

        from harness.media import pictures

        path = Path(path)
        if path.suffix not in {".png", ".npz"}:
            raise HarnessError(f"{path}: the name must end in .png (a grid) or .npz (an array)")
        with pictures.report_write_errors(path, "path"):
            if path.suffix == ".png":
                pictures.save_png(path, self._picture())
            else:
                np.savez_compressed(path, images=self.images)
        return path

    def _picture(self) -> npt.NDArray[np.uint8]:
        import torch

        from harness.media import pictures

        images = torch.from_numpy(self.images)
        return pictures.grid(images.unsqueeze(1) if images.dim() == 3 else images, self.columns)

    def _repr_png_(self) -> bytes:
        from harness.media import pictures

        return pictures.to_png(self._picture())
