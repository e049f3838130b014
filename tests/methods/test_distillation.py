import math
from typing import Any

import pytest

from compresskit.errors import UsageError
from compresskit.methods.distillation import Distillation


@pytest.mark.parametrize(
    ("settings", "flag"),
    [
        ({"temperature": 0.0}, "--temperature 0"),
        ({"temperature": -1.0}, "--temperature -1"),
        ({"temperature": math.inf}, "--temperature inf"),
        ({"distill_weight": -0.1}, "--distill-weight -0.1"),
        ({"distill_weight": 1.1}, "--distill-weight 1.1"),
        ({"distill_weight": math.nan}, "--distill-weight nan"),
        ({"teacher_lr": 0.0}, "--teacher-lr 0"),
        ({"teacher_epochs": 0.0}, "--teacher-epochs 0"),
        ({"teacher_lr": 1.0, "teacher": "x"}, r"--teacher-lr \S+ has no effect"),
        ({"teacher_epochs": 1.0, "teacher": "x"}, r"--teacher-epochs \S+ has no effect"),
        ({"temperature": 1.0, "distill": False}, r"--temperature \S+ has no effect"),
        ({"distill_weight": 0.0, "distill": False}, r"--distill-weight \S+ has no effect"),
        ({"teacher_lr": 1.0, "distill": False}, r"--teacher-lr \S+ has no effect"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], flag: str) -> None:
    with pytest.raises(UsageError, match=rf"^{flag} ") as caught:
        Distillation(**{"distill": True, **settings})
    assert caught.value.exit_code == 2


def test_how_much() -> None:
    assert Distillation().softening is None
    assert Distillation(teacher="x").softening is None
    assert Distillation(distill=True).softening == {"temperature": 2.0, "weight": 0.9}
    assert Distillation(distill=True, temperature=4.0, distill_weight=0.0).softening == {
        "temperature": 4.0,
        "weight": 0.0,
    }


def test_when_a_teacher_is_trained_first() -> None:
    assert Distillation(distill=True).trains_teacher
    assert not Distillation(distill=True, teacher="x").trains_teacher
    assert not Distillation().trains_teacher
