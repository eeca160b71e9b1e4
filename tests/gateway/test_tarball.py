"""What a tar may hold, and the one tar that the same content always becomes."""

import hashlib
import io
import tarfile
from itertools import permutations
from pathlib import Path

import pytest
from edgewise.gateway import tarball
from edgewise.gateway.tarball import BadTar, TooMuch, members, pack
from hypothesis import given
from hypothesis import strategies as st

from tests.gateway.tars import APP, files_in, tar_of, tar_with

MOST = 10**6


def canonical(tar: bytes, most: int = MOST) -> tuple[str, bytes]:
    source, target = io.BytesIO(tar), io.BytesIO()
    return pack(source, members(source, most), target), target.getvalue()


def test_the_digest_is_that_of_the_tar_and_names_all_content() -> None:
    digest, made = canonical(tar_of(APP))
    assert digest == hashlib.sha256(made).hexdigest()
    assert files_in(made) == APP
    with tarfile.open(fileobj=io.BytesIO(made)) as archive:
        assert [entry.name for entry in archive] == ["lib", "lib/größe.py", "lib/model.bin", "main.py"]
        assert {(entry.mode, entry.mtime, entry.uid, entry.uname) for entry in archive} == {
            (0o555, 0, 0, ""),
            (0o444, 0, 0, ""),
        }


def test_order_times_owners_and_format_do_not_change_it() -> None:
    made = {
        canonical(tar_of(dict(order), mtime=mtime, kind=kind))[0]
        for order in permutations(APP.items())
        for mtime, kind in ((0, tarfile.PAX_FORMAT), (1_700_000_000, tarfile.GNU_FORMAT))
    }
    dotted = canonical(tar_of({f"./{name}": content for name, content in APP.items()}))[0]
    assert made == {dotted}


def test_the_examples_digest_is_that_of_its_folder() -> None:
    example, made = Path(__file__).parents[2] / "examples/sharpness", io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        archive.add(example / "app", ".", filter=lambda entry: None if "__pycache__" in entry.name else entry)
    assert f"digest: sha256:{canonical(made.getvalue())[0]}\n" in (example / "edgeapp.yaml").read_text()


def test_content_names_and_execution_change_it() -> None:
    other = {
        canonical(tar_of(files))[0]
        for files in (APP, APP | {"main.py": b""}, {"a": b""}, {"b": b""}, {"a/b": b""}, {"a/c": b""})
    }
    assert len(other) == 6
    entry = tarfile.TarInfo("a")
    entry.mode = 0o700
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        archive.addfile(entry)
    assert canonical(made.getvalue())[0] != canonical(tar_of({"a": b""}))[0]


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_are_read_from_every_kind_of_header(kind: int) -> None:
    name = "/".join(["p" * 200] * 4) + "/ü.py"
    assert files_in(canonical(tar_of({name: b"1"}, kind=kind))[1]) == {name: b"1"}


@pytest.mark.parametrize(
    ("tar", "told"),
    [
        (tar_with(tarfile.SYMTYPE), "'thing' is a symbolic link"),
        (tar_with(tarfile.LNKTYPE), "'thing' is a hard link"),
        (tar_with(tarfile.CHRTYPE), "'thing' is a device"),
        (tar_with(tarfile.BLKTYPE), "'thing' is a device"),
        (tar_with(tarfile.FIFOTYPE), "'thing' is a pipe"),
        (tar_with(b"Z"), "unknown kind"),
        (tar_of({"../up": b""}), "'..'"),
        (tar_of({"a/../b": b""}), "'..'"),
        (tar_of({"/etc/passwd": b""}), "is not a relative path"),
        (tar_of({".//etc/passwd": b"", "etc/passwd": b""}), "is there twice"),
        (tar_of({"a\nb": b""}), "control character"),
        (tar_of({"p" * 256: b""}), "255 bytes"),
        (tar_of({"/".join("d" * 70): b""}), "64 folders deep"),
        (tar_of({"a": b""})[:512] + tar_of({"a": b""}), "'a' is there twice"),
        (tar_of({"a": b"", "a/b": b""}), "'a' is a file and also the folder"),
        (tar_of({"a/b": b"", "a": b""}), "'a' is there twice"),
        (tar_of({}), "no file is in it"),
        (b"", "no whole tar"),
        (b"not a tar" * 100, "no whole tar"),
        (tar_of({"a": b"1"})[:512], "ends within 'a'"),
        (tar_of({"a": b"1"})[:1024], "no whole tar"),
    ],
)
def test_what_is_refused_is_named(tar: bytes, told: str) -> None:
    with pytest.raises(BadTar) as raised:
        canonical(tar)
    assert told in str(raised.value)


def test_a_long_extended_header_is_not_read() -> None:
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 10**6
    with pytest.raises(BadTar, match="extended header has 1000000 bytes"):
        canonical(header.tobuf() + bytes(10**6 + 512))


def test_many_extended_headers_are_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tarball, "MAX_EXTENDED_TOTAL", 1500)
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 512
    with pytest.raises(TooMuch, match="extended headers have more than 1500 bytes"):
        canonical((header.tobuf() + b"8 a=bcd\n" * 64) * 3 + tar_of(APP))


def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TooMuch, match="more than the 5 bytes"):
        canonical(tar_of({"a": b"123", "b": b"456"}), 5)
    monkeypatch.setattr(tarball, "MAX_ENTRIES", 3)
    assert files_in(canonical(tar_of({"a/b": b"", "c": b""}))[1]) == {"a/b": b"", "c": b""}
    with pytest.raises(TooMuch, match="more than the 3 files and folders"):
        canonical(tar_of({"a/b": b"", "c/d": b""}))


NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/"), min_size=1, max_size=20).filter(
    lambda name: name not in (".", "..")
)


@given(st.dictionaries(NAMES, st.binary(max_size=2000), min_size=1, max_size=8), st.sampled_from([0, 1, 2]))
def test_any_folder_survives_and_packing_again_changes_nothing(files: dict[str, bytes], kind: int) -> None:
    digest, made = canonical(tar_of(files, kind=tarfile.PAX_FORMAT if kind else tarfile.GNU_FORMAT))
    assert files_in(made) == files
    assert canonical(made) == (digest, made)


@given(st.data())
def test_damage_is_refused_or_gives_a_tar_within_the_rules(data: st.DataObject) -> None:
    tar = bytearray(tar_of(APP))
    for _ in range(data.draw(st.integers(1, 4))):
        tar[data.draw(st.integers(0, len(tar) - 1))] = data.draw(st.integers(0, 255))
    try:
        digest, made = canonical(bytes(tar[: data.draw(st.integers(0, len(tar)))]))
    except BadTar:
        return
    assert canonical(made) == (digest, made)
