"""``eqv2 adsorbml``: input, DFT single points and success rates of AdsorbML."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eqv2_plugin.tasks.adsorbml.metrics import DftResult
    from eqv2_plugin.tasks.adsorbml.system_result import SystemResult

RESULTS_HELP = "the folder `results` of a run of configs/adsorbml_batched.yml"
DISTINCT_HELP = "leave out structures that repeat a better one, also on equivalent sites"


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add the command with its three parts."""
    group = commands.add_parser(
        "adsorbml", help="lowest adsorption energies: input, DFT single points, success rates"
    )
    parts = group.add_subparsers(dest="adsorbml_command", required=True)
    _add_input(parts)
    _add_single_points(parts)
    _add_score(parts)


def _add_input(parts: argparse._SubParsersAction) -> None:
    parser = parts.add_parser(
        "input",
        help="make the input of a run from slab files and adsorbates",
        description="Every adsorbate on every slab. Surface atoms are tagged, slabs narrower than "
        "8 Å tiled, and the layers below fixed, where the file does not say how.",
    )
    parser.add_argument("slabs", type=Path, nargs="+", metavar="SLAB", help="files that ASE reads")
    parser.add_argument(
        "--adsorbates", nargs="+", required=True, metavar="SMILES", help='such as "*CO" "*OH"'
    )
    parser.add_argument(
        "--relaxed",
        type=Path,
        nargs="+",
        metavar="SLAB",
        help="relaxed clean slabs, one for each slab, in the same order",
    )
    parser.add_argument(
        "--bulk",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="bulks that the slabs were cut from, in the same order: surface atoms are then found "
        "by coordination",
    )
    parser.add_argument(
        "--minima",
        type=Path,
        metavar="CSV",
        help="lowest DFT adsorption energies; columns system, energy",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="INPUT.json",
        help="JSON; with any other ending fairchem's pickle",
    )
    parser.set_defaults(run=run_input)


def _add_single_points(parts: argparse._SubParsersAction) -> None:
    parser = parts.add_parser(
        "single-points",
        help="write VASP input for the best structures",
        description="DFT single points with OC20's settings, and a table to fill with their "
        "results.",
    )
    parser.add_argument("results", type=Path, help=RESULTS_HELP)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("-k", type=int, default=5, help="structures per system (default: 5)")
    parser.add_argument("--distinct", action="store_true", help=DISTINCT_HELP)
    parser.set_defaults(run=run_single_points)


def _add_score(parts: argparse._SubParsersAction) -> None:
    parser = parts.add_parser(
        "score",
        help="success rate and speed-up for k = 1 to 5, and a report",
        description="EquiformerV2 paper, Table 3 and section D.4.",
    )
    parser.add_argument("results", type=Path, help=RESULTS_HELP)
    parser.add_argument(
        "--dft",
        type=Path,
        required=True,
        metavar="CSV",
        help="single points; columns system, candidate, energy, and optionally scf_steps and "
        "ionic_steps",
    )
    parser.add_argument(
        "--best",
        type=Path,
        metavar="CSV",
        help="lowest DFT energies; columns system, energy, and optionally scf_steps and "
        "ionic_steps of all DFT relaxations (default: the minima of the run's input)",
    )
    parser.add_argument("--distinct", action="store_true", help=DISTINCT_HELP)
    parser.add_argument("--report", type=Path, metavar="OUT.html", help="write a report there")
    parser.add_argument("--plot", type=Path, metavar="OUT.png", help="write the plot there")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the numbers there")
    parser.set_defaults(run=run_score)


def run_input(options: argparse.Namespace) -> int:
    """Write the input; print what was done to the slabs, and the systems' ids."""
    from eqv2_plugin.tasks.adsorbml.input import SlabFile, build_input, write_input
    from eqv2_plugin.tasks.adsorbml.slab_files import read_structure, stems
    from eqv2_plugin.tasks.adsorbml.tables import read_references

    for name in ("relaxed", "bulk"):
        given = getattr(options, name)
        if given is not None and len(given) != len(options.slabs):
            raise ValueError(
                f"--{name} needs one file for each of the {len(options.slabs)} slabs, got "
                f"{len(given)}"
            )
    count = len(options.slabs)
    slabs = [
        SlabFile(
            name,
            read_structure(initial),
            None if relaxed is None else read_structure(relaxed),
            None if bulk is None else read_structure(bulk),
        )
        for name, initial, relaxed, bulk in zip(
            stems(options.slabs),
            options.slabs,
            options.relaxed or [None] * count,
            options.bulk or [None] * count,
            strict=True,
        )
    ]
    minima = {}
    if options.minima is not None:
        found = read_references(options.minima)
        minima = {key: r.energy for key, r in found.items() if r.energy is not None}
    content, notes = build_input(slabs, options.adsorbates, minima)
    write_input(options.out, content)
    for note in notes:
        print(note)
    if options.relaxed is None:
        print("no relaxed slabs given: changes of the surface are told from the initial ones")
    print(f"{options.out}: {len(content)} systems: {', '.join(content)}")
    return 0


def run_single_points(options: argparse.Namespace) -> int:
    """Write the folders."""
    from eqv2_plugin.tasks.adsorbml.single_points import TABLE, write_single_points
    from eqv2_plugin.tasks.adsorbml.system_result import load_results

    results = load_results(options.results)
    count, potcars = write_single_points(results, options.out, options.k, options.distinct)
    for result in results:
        if not result.ranked():
            print(f"{result.system}: no valid structure")
    print(f"{options.out}: VASP input of {count} single points")
    if not potcars:
        print(
            "no POTCAR files: ASE finds no pseudopotentials (set VASP_PP_PATH), or add your own in "
            "the order of each POSCAR"
        )
    table = options.out / TABLE
    print(f"fill in {table}, then: eqv2 adsorbml score {options.results} --dft {table}")
    return 0


def run_score(options: argparse.Namespace) -> int:
    """Print the table; write report, plot and numbers."""
    import dataclasses
    import json

    from eqv2_plugin.common.files import save_text, whole_file
    from eqv2_plugin.tasks.adsorbml.duplicates import distinct
    from eqv2_plugin.tasks.adsorbml.metrics import KS, score
    from eqv2_plugin.tasks.adsorbml.plots import success_plot
    from eqv2_plugin.tasks.adsorbml.report import (
        success_table,
        unscored_lines,
        write_adsorbml_report,
    )
    from eqv2_plugin.tasks.adsorbml.system_result import load_results
    from eqv2_plugin.tasks.adsorbml.tables import check_candidates, read_single_points

    results = load_results(options.results)
    single_points = read_single_points(options.dft)
    check_candidates(options.dft, single_points, results)
    ranked = {
        result.system: [
            c.id
            for c in (distinct(result.ranked(), max(KS)) if options.distinct else result.ranked())
        ]
        for result in results
    }
    found = score(ranked, single_points, _references(options.best, results))
    header, rows = success_table(found)
    widths = [max(len(str(line[i])) for line in (header, *rows)) for i in range(len(header))]
    for line in (header, *rows):
        print("  ".join(f"{value!s:>{width}}" for value, width in zip(line, widths, strict=True)))
    print(f"{len(found.differences)} systems")
    for sentence in unscored_lines(found):
        print(sentence)
    if options.report is not None:
        write_adsorbml_report(options.report, results, found)
        print(f"written: {options.report}")
    if options.plot is not None:
        with whole_file(options.plot) as building:
            building.write_bytes(success_plot(found.rows, len(found.differences)))
        print(f"written: {options.plot}")
    if options.json is not None:
        content = {
            "systems": len(found.differences),
            "k": [dataclasses.asdict(r) for r in found.rows],
        }
        save_text(options.json, json.dumps(content, indent=1, allow_nan=False) + "\n")
        print(f"written: {options.json}")
    return 0


def _references(path: Path | None, results: list[SystemResult]) -> dict[str, DftResult]:
    from eqv2_plugin.tasks.adsorbml.metrics import DftResult
    from eqv2_plugin.tasks.adsorbml.tables import read_references

    if path is not None:
        return read_references(path)
    references = {r.system: DftResult(r.target) for r in results if r.target is not None}
    if not references:
        raise ValueError(
            "the run's input holds no lowest DFT energies: give them with --best CSV (columns "
            "system, energy)"
        )
    return references
