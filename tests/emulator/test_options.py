from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.emulator.options import FAULTS, EmulatorOptions, Fault
from bridge.errors import ConfigError


def test_a_fault_names_what_how_much_and_whom() -> None:
    fault = Fault.parse("drop=2.5@2-3")
    assert (fault.name, fault.seconds) == ("drop", 2.5)
    assert [n for n in range(1, 6) if fault.applies_to(n)] == [2, 3]


def test_a_fault_for_one_connection_for_all_and_from_one_on() -> None:
    assert [n for n in range(1, 4) if Fault.parse("drop=1@1").applies_to(n)] == [1]
    assert [n for n in range(1, 4) if Fault.parse("drop=1").applies_to(n)] == [1, 2, 3]
    assert [n for n in range(1, 4) if Fault.parse("drop=1@2-").applies_to(n)] == [2, 3]


def test_an_error_has_a_code_and_a_time() -> None:
    options = EmulatorOptions(faults=(Fault.parse("error=503:4.5"),))
    faults = options.faults_of(1)
    assert (faults.code("error"), faults.seconds("error")) == (503, 4.5)
    assert "error" in faults
    assert "drop" not in faults
    assert faults.seconds("drop") is None


@pytest.mark.parametrize("text", ["", "explode=1", "drop=x", "drop=1.2.3", "error=:", "drop=1@", "drop=1@x"])
def test_what_is_no_fault_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        Fault.parse(text)


NEARLY = st.tuples(st.sampled_from(sorted(FAULTS)), st.text("0123456789.:@-=", max_size=8)).map("".join)


@given(st.text(max_size=20) | NEARLY)
def test_parsing_raises_nothing_but_a_configuration_error(text: str) -> None:
    try:
        assert Fault.parse(text).name in FAULTS
    except ConfigError:
        pass
