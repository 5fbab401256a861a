"""``eqv2 adsorbml``: input, DFT single points and success rates of AdsorbML."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add the command with its three parts."""
    group = commands.add_parser(
        "adsorbml", help="lowest adsorption energies: input, DFT single points, success rates"
    )
    parts = group.add_subparsers(dest="adsorbml_command", required=True)
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

    parser = parts.add_parser(
        "single-points",
        help="write VASP input for the best structures",
        description="DFT single points with OC20's settings, and a table to fill with their "
        "results.",
    )
    _add_results(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("-k", type=int, default=5, help="structures per system (default: 5)")
    parser.set_defaults(run=run_single_points)

    parser = parts.add_parser(
        "score",
        help="success rate and speed-up for k = 1 to 5, and a report",
        description="EquiformerV2 paper, Table 3 and section D.4.",
    )
    _add_results(parser)
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
    parser.add_argument("--report", type=Path, metavar="OUT.html", help="write a report there")
    parser.add_argument("--plot", type=Path, metavar="OUT.png", help="write the plot there")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the numbers there")
    parser.set_defaults(run=run_score)


def _add_results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "results", type=Path, help="the folder `results` of a run of configs/adsorbml_batched.yml"
    )
    parser.add_argument(
        "--distinct",
        action="store_true",
        help="leave out structures that repeat a better one, also on equivalent sites",
    )


def run_input(options: argparse.Namespace) -> int:
    """Write the input; print what was done to the slabs, and the systems' ids."""
    from eqv2_plugin.tasks.adsorbml.input import SlabFile, build_input, write_input
    from eqv2_plugin.tasks.adsorbml.single_points import read_references
    from eqv2_plugin.tasks.adsorbml.slabs import read_structure, stems

    def structures(name: str) -> list:
        given = getattr(options, name)
        if given is None:
            return [None] * len(options.slabs)
        if len(given) != len(options.slabs):
            raise ValueError(
                f"--{name} needs one file for each of the {len(options.slabs)} slabs, got "
                f"{len(given)}"
            )
        return [read_structure(path) for path in given]

    columns = (stems(options.slabs), *map(structures, ("slabs", "relaxed", "bulk")))
    slabs = [SlabFile(*row) for row in zip(*columns, strict=True)]
    references = {} if options.minima is None else read_references(options.minima)
    minima = {key: one.energy for key, one in references.items() if one.energy is not None}
    content, notes = build_input(slabs, options.adsorbates, minima)
    write_input(options.out, content)
    if options.relaxed is None:
        notes += ["no relaxed slabs given: changes of the surface are told from the initial ones"]
    print(*notes, f"{options.out}: {len(content)} systems: {', '.join(content)}", sep="\n")
    return 0


def run_single_points(options: argparse.Namespace) -> int:
    """Write the folders."""
    from eqv2_plugin.tasks.adsorbml.results import load_results
    from eqv2_plugin.tasks.adsorbml.single_points import TABLE, write_single_points

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

    from eqv2_plugin.common.files import atomic_write, save_text
    from eqv2_plugin.common.text import table
    from eqv2_plugin.tasks.adsorbml import report
    from eqv2_plugin.tasks.adsorbml.metrics import KS, DftResult, score
    from eqv2_plugin.tasks.adsorbml.results import load_results
    from eqv2_plugin.tasks.adsorbml.single_points import (
        chosen,
        read_references,
        read_single_points,
    )

    results = load_results(options.results)
    single_points = read_single_points(options.dft, results)
    references = {r.system: DftResult(r.target) for r in results if r.target is not None}
    if options.best is not None:
        references = read_references(options.best)
    elif not references:
        raise ValueError(
            "the run's input holds no lowest DFT energies: give them with --best CSV (columns "
            "system, energy)"
        )
    ranked = {r.system: [c.id for c in chosen(r, max(KS), options.distinct)] for r in results}
    found = score(ranked, single_points, references)
    print(table(report.SUCCESS_HEADER, report.success_rows(found)))
    print(f"{len(found.differences)} systems", *report.unscored_lines(found), sep="\n")
    if options.report is not None:
        report.write_adsorbml_report(options.report, results, found)
    if options.plot is not None:
        with atomic_write(options.plot) as building:
            building.write_bytes(report.success_plot(found))
    if options.json is not None:
        rows = [dataclasses.asdict(row) for row in found.rows]
        content = {"systems": len(found.differences), "k": rows}
        save_text(options.json, json.dumps(content, indent=1, allow_nan=False) + "\n")
    for path in filter(None, (options.report, options.plot, options.json)):
        print(f"written: {path}")
    return 0
