"""What a source learned about its tables, on disk."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from runner.requests import Shapes


def test_several_threads_may_write_it_down_at_once(tmp_path: Path) -> None:
    shapes = Shapes(tmp_path / "job.shapes.json")

    def learn(number: int) -> None:
        shapes.put(f"table{number}", {f"column{one}": "text" for one in range(50)})
        shapes.save()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(learn, range(400)))
    again = Shapes(tmp_path / "job.shapes.json")
    assert all(again.get(f"table{number}") for number in range(400))
    assert [one.name for one in tmp_path.iterdir()] == ["job.shapes.json"]
