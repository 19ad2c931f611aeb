"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engines.files import PART, disk_is_full, whole_file, write_whole
from tests.faults import full_disk


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    place = tmp_path / "new" / "a.txt"
    with whole_file(place) as file:
        file.write(b"half")
        assert not place.exists()
        file.write(b" and half")
    assert place.read_bytes() == b"half and half"
    write_whole(place, "später", durable=False)
    assert place.read_text("utf-8") == "später"
    assert list(place.parent.iterdir()) == [place]


def test_what_fails_leaves_the_earlier_file(tmp_path: Path) -> None:
    place = tmp_path / "a.txt"
    write_whole(place, b"earlier")
    with full_disk(), pytest.raises(OSError, match="No space") as full:
        write_whole(place, b"later")
    assert disk_is_full(full.value)
    with pytest.raises(ZeroDivisionError), whole_file(place) as file:
        file.write(b"%d" % (1 / 0))
    with pytest.raises(OSError, match="directory") as other:
        write_whole(place / "b.txt", b"")
    assert not disk_is_full(other.value)
    assert place.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [place]


def test_a_taken_name_can_be_refused(tmp_path: Path) -> None:
    place = tmp_path / "a.txt"
    write_whole(place, b"earlier")
    with pytest.raises(FileExistsError), whole_file(place, put=os.link) as file:
        file.write(b"later")
    assert place.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.parametrize("letter", ["n", "猫", "🔬"])
def test_a_long_name(tmp_path: Path, letter: str) -> None:
    """As long as file systems allow, which count bytes."""
    place = tmp_path / (letter * (255 // len(letter.encode())))
    write_whole(place, b"x")
    assert list(tmp_path.iterdir()) == [place]


def test_a_kill_leaves_no_torn_file(tmp_path: Path) -> None:
    place = tmp_path / "a.txt"
    write_whole(place, b"earlier")
    script = (
        "import os, signal, sys; from pathlib import Path; from engines.files import whole_file\n"
        "with whole_file(Path(sys.argv[1])) as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(place)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert place.read_bytes() == b"earlier"
    assert [path.suffix for path in tmp_path.iterdir() if path != place] == [PART]
