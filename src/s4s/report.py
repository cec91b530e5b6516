"""results/report.html: one self-contained page with the comparison tables and the figures."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Template

from s4s.atomic import write_text
from s4s.tables import NOT_LEARNED, caption, comparison, read_scores
from s4s.usage import by_job, read_usage

_PAGE = Template(
    """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>S4S report</title><style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; font-size: 13px } th, td { padding: .15rem .6rem; text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left } tr:nth-child(even) { background: #f4f4f4 }
thead { border-bottom: 1px solid #222 } .wide { overflow-x: auto } img { max-width: 100%; height: auto }
tr.learned td:first-child { font-weight: 600 } pre { white-space: pre-wrap; background: #f4f4f4; padding: 1rem }
</style></head><body>
<h1>Learned and classical solvers compared</h1>
<p>Every cell is a solver at a number of network evaluations (NFE). Learned solvers are named in bold.
The same numbers with all details: <a href="tables/scores.csv">tables/scores.csv</a>.</p>
{% for table in tables %}<h2>{{ table.title }}</h2><p>{{ table.caption }}</p>
<div class="wide"><table><thead><tr><th>solver</th>{% for nfe in table.columns %}<th>{{ nfe }}</th>{% endfor %}</tr></thead>
<tbody>{% for solver, row in table.rows %}<tr{% if solver in learned %} class="learned"{% endif %}><td>{{ solver }}</td>
{% for value in row %}<td>{{ value }}</td>{% endfor %}</tr>{% endfor %}</tbody></table></div>{% endfor %}
{% for name, image in figures %}<h2>{{ name }}</h2>
<p><img alt="{{ name }}" src="data:image/png;base64,{{ image }}"></p>{% endfor %}
<h2>What it cost</h2><p>{{ cost.caption }}</p>
<div class="wide"><table><thead><tr>{% for name in cost.columns %}<th>{{ name }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in cost.rows %}<tr>{% for value in row %}<td>{{ value }}</td>{% endfor %}</tr>{% endfor %}</tbody>
</table></div><h2>How this was made</h2><pre>{{ config }}</pre><p>{{ versions }}</p>
</body></html>
"""
)


def cost_table(logs: str | Path, run: str) -> dict[str, Any]:
    """What all jobs whose logs are there cost, by kind of job, and how many of them this run found done."""
    table = by_job(read_usage(logs), run)
    shared = sum(path.is_symlink() for path in Path(logs).parent.glob("teacher/*/*/*.h5"))
    total = table.agg(dict.fromkeys(["jobs", "here", "reused", "evaluations", "seconds", "processor", "gpu_seconds"], "sum"))
    total = total.reindex(table.columns).fillna({"memory": table.memory.max(), "gpu_memory": table.gpu_memory.max()})
    table.loc["all"] = total
    columns = ["job", "jobs", "run now", "cache hits", "evaluations", "seconds", "processor seconds", "GPU-seconds",
               "peak memory (MB)", "peak GPU memory (MB)"]  # fmt: skip
    return {
        "caption": "Jobs that the results rest on, up to this page: run now, or done before and found up to date (cache hits). "
        "Seconds are those of the jobs' own work, without start and imports; evaluations are states through the network of the "
        "diffusion model, two for a step with guidance, and two more for a gradient."
        + (
            f" {shared} shards of teacher pairs were taken from or put into a cache that other folders share." if shared else ""
        ),
        "columns": columns,
        "rows": [[job, *(f"{value:,.0f}" for value in row)] for job, row in zip(table.index, table.to_numpy(), strict=True)],
    }


def write_report(
    scores_path: str | Path, figures: Sequence[str], config: str, path: str | Path, logs: str | Path, run: str = ""
) -> None:
    """Write the page.

    Args:
        config: the JSON of the run's configuration.
        logs: folder of the jobs' logs.
        run: what jobs of this run call it in their logs.
    """
    scores = read_scores(scores_path)
    tables = []
    for model, block in scores.groupby("model", sort=False):
        for metric, title in [("fid", "Fréchet distance"), ("global_error", "Global error")]:
            cells, teacher = comparison(block, metric, lambda value: f"<b>{value}</b>")
            tables.append({
                "title": f"{title}, {model}", "caption": caption(block, metric, teacher), "columns": list(cells.columns),
                "rows": [(solver, list(row)) for solver, row in zip(cells.index, cells.to_numpy(), strict=True)],
            })  # fmt: skip
    page = _PAGE.render(
        tables=tables,
        learned=set(scores[~scores.family.isin(NOT_LEARNED)].solver),
        figures=[
            (Path(figure).stem.replace("_", " "), base64.b64encode(Path(figure).read_bytes()).decode()) for figure in figures
        ],
        cost=cost_table(logs, run),
        config=json.dumps(json.loads(config), indent=2),
        versions=", ".join(f"{name} {version(name)}" for name in ("s4s", "torch", "snakemake", "clean-fid")),
    )
    write_text(path, page)
