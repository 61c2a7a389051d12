"""The section of the report on what a run took of a destination that is paid by use."""

from runner import costs
from runner.load import Cost
from runner.story import Story


def story(*spent: dict[str, object]) -> Story:
    events = [{"at": "2026-11-23T12:00:00+00:00", "action": "spent", **one} for one in spent]
    return Story({"run": "r"}, [], [], [], events)


def test_there_is_no_section_where_nothing_is_paid():
    assert costs.section(story()) == ""


def test_what_a_table_took_is_added_up_and_the_dearest_comes_first():
    page = costs.section(
        story(
            {"table": "public.<a>", "statements": 1.5, "staged": 10, "credits": 0.001},
            {"table": "public.b", "statements": 3.0, "staged": 1024, "credits": 0.002},
            {"table": "public.b", "statements": 2.0, "staged": 0, "credits": 0.002},
        )
    )
    assert "Bytes billed" not in page
    assert page.index("All tables") < page.index("public.b") < page.index("public.&lt;a&gt;")
    assert "0.00500" in page
    assert ">6.5<" in page
    assert ">5<" in page


def test_bytes_billed_have_a_column_where_they_are_known():
    page = costs.section(story({"table": "t", "statements": 1.0, "staged": 1, "billed": 10 * 2**20}))
    assert "Bytes billed" in page
    assert "Credits</th>" not in page


def test_what_works_share_is_divided():
    before, after = Cost(10, 0, 0.5), Cost(16, 0, 0.8)
    share = (after - before).share(3, 100)
    assert (share.statements, share.staged, share.billed) == (2, 100, None)
    assert abs(float(share.credits or 0) - 0.1) < 1e-9
