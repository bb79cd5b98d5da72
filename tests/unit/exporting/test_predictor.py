"""Predictions: same pixels and numbers as an evaluation; bad images are named or skipped."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from discern.base.errors import ConfigError, DataError, ModelError
from discern.data.images import Preprocess
from discern.exporting.predictor import Predictor
from discern.models.catalogue import ModelRequest, build_model

CLASSES = tuple("abcdefg")


@pytest.fixture
def predictor():
    torch.manual_seed(3)
    built = build_model(
        ModelRequest(name="lenet", num_classes=len(CLASSES), channels=3, image_size=(28, 28))
    )
    preprocess = Preprocess(
        height=28, width=28, channels=3, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)
    )
    return Predictor(built.model, preprocess, CLASSES)


def arrays(count, size=28):
    return np.random.default_rng(1).integers(0, 255, (count, size, size, 3), dtype=np.uint8)


def jpeg_bytes(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def test_probabilities_are_the_networks_own(predictor):
    images = arrays(3)
    batch = torch.from_numpy(images).permute(0, 3, 1, 2).double() / 255
    mean = torch.tensor(predictor.preprocess.mean).view(1, 3, 1, 1)
    std = torch.tensor(predictor.preprocess.std).view(1, 3, 1, 1)
    with torch.inference_mode():
        expected = predictor.model(((batch - mean) / std).float()).logits.softmax(1).numpy()
    found = predictor.predict(images, top_k=len(CLASSES))
    order = np.argsort(-expected, axis=1)
    np.testing.assert_array_equal(order, found.top)
    np.testing.assert_allclose(np.take_along_axis(expected, order, 1), found.probabilities, 1e-5)
    assert found.classes == tuple(CLASSES[number] for number in order[:, 0])


def test_path_bytes_and_pixels_of_an_image_give_the_same(predictor, tmp_path):
    data = jpeg_bytes(arrays(1, 60)[0])
    path = tmp_path / "one.jpg"
    path.write_bytes(data)
    pixels = np.asarray(Image.open(io.BytesIO(data)))
    found = predictor.predict([path, str(path), data, pixels])
    assert np.ptp(found.probabilities, axis=0).max() < 1e-6
    assert found.names == (str(path), str(path), "image 2", "image 3")


def test_batches_do_not_change_the_answer(predictor):
    images = arrays(7)
    whole, split = predictor.predict(images), predictor.predict(images, batch_size=3)
    np.testing.assert_array_equal(whole.top, split.top)
    np.testing.assert_allclose(whole.probabilities, split.probabilities, atol=1e-6)
    np.testing.assert_allclose(whole.features, split.features, atol=1e-5)
    assert len(split) == 7


@pytest.mark.parametrize(("top_k", "kept"), [(1, 1), (5, 5), (50, 7)])
def test_top_k_is_at_most_the_number_of_classes(predictor, top_k, kept):
    assert predictor.predict(arrays(2), top_k=top_k).top.shape == (2, kept)


def test_bad_image_is_named(predictor, tmp_path):
    good, bad = tmp_path / "good.jpg", tmp_path / "bad.jpg"
    good.write_bytes(jpeg_bytes(arrays(1)[0]))
    bad.write_bytes(good.read_bytes()[:200])
    with pytest.raises(DataError) as caught:
        predictor.predict([good, bad])
    assert str(bad) in caught.value.where


def test_bad_images_are_skipped_and_listed_when_asked(predictor, tmp_path):
    good, bad = tmp_path / "good.jpg", tmp_path / "bad.jpg"
    good.write_bytes(jpeg_bytes(arrays(1)[0]))
    bad.write_bytes(b"text")
    missing = tmp_path / "missing.jpg"
    found = predictor.predict([bad, good, missing], on_bad_image="skip")
    assert found.names == (str(good),)
    assert [str(bad), str(missing)] == [problem.split(": ")[0] for problem in found.problems]


def test_folder_means_all_images_in_it(predictor, tmp_path):
    for name in ("b.jpg", "a.jpg"):
        (tmp_path / name).write_bytes(jpeg_bytes(arrays(1)[0]))
    (tmp_path / "note.txt").write_text("x")
    found = predictor.predict(tmp_path)
    assert found.names == (str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg"))


def test_rows_are_plain_json_values(predictor):
    import json

    rows = predictor.predict(arrays(2), top_k=2).rows()
    assert rows == json.loads(json.dumps(rows))
    assert rows[0]["top"][0]["class"] == rows[0]["class"]
    assert rows[0]["top"][0]["probability"] >= rows[0]["top"][1]["probability"]


def test_answer_that_is_not_finite_is_an_error(predictor):
    with torch.no_grad():
        next(predictor.model.parameters()).fill_(float("nan"))
    with pytest.raises(ModelError, match="not finite"):
        predictor.predict(arrays(1))


@pytest.mark.parametrize("options", [{"top_k": 0}, {"batch_size": 0}, {"on_bad_image": "ignore"}])
def test_impossible_options_are_refused(predictor, options):
    with pytest.raises(ConfigError):
        predictor.predict(arrays(1), **options)


def test_nothing_to_predict_is_an_error(predictor):
    with pytest.raises(DataError, match="no image"):
        predictor.predict([])


def test_prediction_leaves_training_dropout_out(predictor):
    predictor.model.train()
    again = Predictor(predictor.model, predictor.preprocess, CLASSES)
    first, second = again.predict(arrays(4)), again.predict(arrays(4))
    np.testing.assert_array_equal(first.probabilities, second.probabilities)
