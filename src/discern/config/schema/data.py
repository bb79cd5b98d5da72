"""The `data` section: which images, how they are split, what the network gets to see of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from discern.config.schema.section import Section

Share = Annotated[float, Field(gt=0.0, lt=1.0)]
Fold = Annotated[int, Field(ge=0)]
ImageSide = Annotated[int, Field(ge=4, le=4096)]


class DataConfig(Section):
    """Images, splits, sizes. What is not given is read off the images."""

    source: str = Field(
        description="folder, table, manifest, archive, built-in name or import path"
    )
    source_args: dict[str, Any] = Field(
        default_factory=dict, description="arguments of a source named by its import path"
    )
    val: str | None = Field(
        None,
        description="separate validation data, of any kind; 'test' chooses the model on the test "
        "images, and says so",
    )
    test: str | None = Field(None, description="separate test data, of any kind")
    root: str | None = Field(None, description="folder with a built-in set's original files")
    labels: str | list[str | dict[str, Any]] | dict[str, dict[str, Any] | None] | None = Field(
        None,
        description="label columns of a table: NAME, [NAME, ...], or {NAME: {kind: multi, "
        "delimiter: ;}}; default: found by name",
    )
    overlay: str | None = Field(
        None,
        description="decisions on single images: the folder of a review, or one version's file; "
        "labels are changed and images left out before anything is split",
    )
    classes: list[str] | dict[str, list[str]] | None = Field(
        None,
        description="class names in order, of several label columns by column; default: sorted",
    )
    side_heads: list[Literal["rotation", "class_rotation", "blur", "flare"]] = Field(
        default_factory=list,
        description="heads beside the labels', on labels made of the images: rotation, "
        "class_rotation, blur, flare",
    )
    val_share: Share = Field(
        0.15, description="share of images for validation when nothing is split"
    )
    test_share: Share = Field(
        0.15, description="share of images for the test when nothing is split"
    )
    inner_val_share: Share = Field(
        0.10, description="share of train held out when only train and test are given"
    )
    split_seed: int = Field(0, description="seed of the stratified split")
    train_folds: list[Fold] | None = Field(
        None, description="folds to train on; default: those that no other one names"
    )
    val_folds: list[Fold] | None = Field(
        None, description="folds to validate on; default with train_folds: all others"
    )
    test_folds: list[Fold] | None = Field(None, description="folds to report on")
    n_folds: Annotated[int, Field(ge=2)] | None = Field(
        None, description="make that many folds by class; default: the data's fold column"
    )
    folds_seed: int = Field(
        42, ge=0, le=2**32 - 1, description="seed of the folds that n_folds makes"
    )
    folds: int | None = Field(
        None,
        ge=2,
        description="folds that the images are dealt to for held_fold; default: the "
        "data's fold column, else 5",
    )
    held_fold: int | None = Field(
        None,
        ge=0,
        description="report on this fold, which the rest of the run never sees; "
        "numbered as the fold column, from 0 where folds are drawn",
    )
    on_bad_image: Literal["error", "skip"] = Field(
        "error", description="unreadable images: refuse to train, or leave them out and report them"
    )
    on_missing_label: Literal["error", "skip"] = Field(
        "error",
        description="images without any label: refuse to train, or leave them out and report them",
    )
    image_size: ImageSide | list[ImageSide] | None = Field(
        None, description="side, or [height, width], in pixels; default: by network and images"
    )
    channels: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="1 gray, 3 RGB, or the number of bands of arrays and TIFF pages; default: "
        "gray if at least 95 % of the images are",
    )
    depth: Literal[8, 16] = Field(
        8, description="bits of a value: 16 reads 16-bit images in full, 8 scales them down"
    )
    fit: Literal["crop", "pad", "squish"] = Field(
        "crop", description="how an image of another shape is brought to the network's"
    )
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos", "area"] | None = Field(
        None, description="resampling filter; default: the network's, else bilinear"
    )
    crop_pct: float | None = Field(
        None, gt=0.0, le=1.0, description="share of the short side kept by the center crop"
    )
    mean: list[float] | None = Field(None, description="per channel, on 0..1 values")
    std: list[float] | None = Field(None, description="per channel, on 0..1 values")
    resample: Literal["mixed", "fast"] = Field(
        "mixed",
        description="resizing of training photos: antialiased where they shrink, or fast: linear",
    )
    overfit_batches: int | None = Field(
        None,
        ge=1,
        description="train on so many batches and score the same images: can it learn them?",
    )
    workers: int | None = Field(None, ge=0, description="decoding threads; default: by free cores")
