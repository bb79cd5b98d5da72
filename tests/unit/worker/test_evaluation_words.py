from discern.worker.evaluation_words import part_lines


def test_only_slices_below_all_images_are_called_weak():
    def part(value, accuracy, gap):
        return {"fact": "camera", "value": value, "count": 10, "accuracy": accuracy,
                "low": 0.5, "high": 1.0, "gap": gap}  # fmt: skip

    weak, level, strong = part("c0", 0.8, -0.1), part("c1", 0.9, 0.0), part("c2", 1.0, 0.1)
    (line,) = part_lines({"slices": [weak, level, strong]})
    assert line.startswith("weak slice: camera c0: 0.8000 on 10 ")
    assert ["weak slices: none is below all images"] == part_lines({"slices": [level, strong]})
