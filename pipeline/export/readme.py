"""README.txt of the hand-over folder: for somebody who never saw the pipeline."""

import textwrap
from collections.abc import Sequence

from pipeline.export.manifest import meanings
from pipeline.export.settings import ESPRESSO, VASP, ExportSettings
from pipeline.export.vasp import potcar_functional

_WIDTH = 120
_FOLDERS = {
    "POSCAR/": "one file a candidate: right-handed cell, sites grouped by element, direct coordinates; the first line "
    "holds id and formula",
    "cif/": "the same cells, site by site, in P1: a symmetrised CIF would hold another setting of the cell. pymatgen "
    "makes 1/3 and 2/3 of coordinates within 1e-4 of them when it reads a CIF; the POSCAR is read as it stands",
    "vasp/ID/": "POSCAR (the same bytes), INCAR, KPOINTS and POTCAR.spec, by pymatgen's {input_set}; no KPOINTS where "
    "that set writes KSPACING into INCAR",
    "espresso/ID/": "pw.in: relaxation of cell and atoms with pw.x",
    "manifest.csv": "one line a candidate, columns below; numbers to six digits, an empty field is a null. "
    "pandas takes the formula NaN (sodium nitride) for a missing value: read manifest.parquet, or give "
    "pandas.read_csv the arguments keep_default_na=False, na_values=['']",
    "manifest.parquet": "the same rows and columns, numbers as numbers; pandas.read_parquet reads it",
    "sources.json": "the databases that the campaign read: queries, dates, check sums, licences, citations",
    "provenance.json": "code, settings, seed, inputs and versions of the export",
    "SHA256SUMS": "check with: sha256sum -c SHA256SUMS",
}
_NOT_DONE = """No DFT was done. Every number is a prediction of a machine-learnt model, or geometry.
Formation energy and gap are predicted from the formula alone: two structures of one formula have the same, and a low
formation energy is not stability. The distance to the hull is by the energies and for the phases that `hull_source`
names, none of them computed here by DFT: phases that it lacks can lie lower. No phonons, no magnetic order, no
disorder, no temperature were looked at. The structure is a proposal: where `origin` is template it has the sites of a
known crystal, where it is generator a model drew it, where it is random symmetry alone did; another may lie lower.
Novel means: not in the databases below."""
_HULL = """How to read the distance to the hull
  energy_above_hull_ev_per_atom 0.030, decomposition 0.500 Li2O + 0.500 MnO2: by these energies Li2MnO3 lies 0.03 eV for
  each atom above a mixture of the two, half of the atoms in each. -0.030: it lies as far below. The fewer
  n_hull_references, the less a low distance says.
  Both empty, relaxed_formation_energy_ev_per_atom -1.200: it is bound by 1.2 eV for each atom against its elements, as
  most compounds are, but there was no hull to hold it to. hull_remark says why, and where there is a distance, which
  known formulas of the system it leaves out.
"""
_VASP = """First steps with VASP
  POTCARs are licensed and not here. POTCAR.spec names the potential of each species, one a line, in the order of the
  POSCAR; MAGMOM, LDAUU, LDAUL and LDAUJ in INCAR keep the same order. VASP does not compare names: never sort the
  POSCAR or the POTCAR alone. {input_set} is made for the potentials
  that pymatgen calls {functional}. In each folder of vasp/:
    for symbol in $(cat POTCAR.spec); do cat POTENTIALS/$symbol/POTCAR; done > POTCAR
  with your folder of potentials for POTENTIALS, then compare: grep TITEL POTCAR; sed -n 6p POSCAR
  A candidate without a folder has its reason in the column vasp_left_out; vasp_remarks has pymatgen's warnings.
"""
_ESPRESSO = """First steps with Quantum ESPRESSO
  Put your pseudopotentials into espresso/pseudo/, named Ti.upf, O.upf and so on, or write your file names into
  ATOMIC_SPECIES. Set ecutwfc and ecutrho to what they ask for; those here ({cutoff:g} and {density_cutoff:g} Ry) suit
  many PAW and ultrasoft potentials. Elements with open d or f shells start with a moment, ferromagnetic, without
  Hubbard U.
  In each folder of espresso/: pw.x -in pw.in > pw.out
"""
_CITE = {
    "chgnet": "CHGNet (`potential`): Deng et al., Nat. Mach. Intell. 5, 1031 (2023), doi:10.1038/s42256-023-00716-3",
    "aflow": "AFLOW prototypes (`template_source`): Mehl et al., Comput. Mater. Sci. 136, S1 (2017), "
    "doi:10.1016/j.commatsci.2017.01.017",
    "random": "PyXtal (`origin`): Fredericks et al., Comput. Phys. Commun. 261, 107810 (2021), "
    "doi:10.1016/j.cpc.2020.107810",
    VASP: "pymatgen (files of vasp/): Ong et al., Comput. Mater. Sci. 68, 314 (2013), "
    "doi:10.1016/j.commatsci.2012.10.028",
    ESPRESSO: "ASE (files of espresso/): Larsen et al., J. Phys.: Condens. Matter 29, 273002 (2017), "
    "doi:10.1088/1361-648X/aa680e",
}


def readme(
    lines: Sequence[dict], sources: Sequence[str], models: Sequence[tuple[str, str]], settings: ExportSettings
) -> str:
    """The text.

    Args:
        lines: Of the manifest.
        sources: Databases with licence and citation.
        models: Check sum and name of the models' files.
        settings: What was asked for.
    """
    left_out = [f"{name}/ID/" for name in (VASP, ESPRESSO) if name not in settings.inputs]
    folders = "\n".join(
        _hanging(f"{name:<17}", meaning.format(input_set=settings.vasp_input_set))
        for name, meaning in _FOLDERS.items()
        if name not in left_out
    )
    steps = []
    if VASP in settings.inputs:
        steps.append(
            _VASP.format(input_set=settings.vasp_input_set, functional=potcar_functional(settings.vasp_input_set))
        )
    if ESPRESSO in settings.inputs:
        cutoffs = {"cutoff": settings.espresso.cutoff_ry, "density_cutoff": settings.espresso.density_cutoff_ry}
        steps.append(_ESPRESSO.format(**cutoffs))
    parts = [
        f"Candidate crystals for DFT, proposed by Kimberlite: {len(lines)}.",
        folders,
        _NOT_DONE,
        _HULL.rstrip("\n"),
        *(step.rstrip("\n") for step in steps),
        "Cite\n" + "\n".join(_hanging("  ", text) for text in _citations(lines, settings)),
        "Databases, to be cited; sources.json has their queries, dates and check sums:\n"
        + "\n".join(f"  {source}" for source in sources),
        "Models (SHA-256, file):\n" + "\n".join(f"  {digest}  {name}" for digest, name in models),
        "Columns of manifest.csv and manifest.parquet. Units end the names: ev_per_atom (eV for each atom), angstrom, "
        "a3_per_atom\n(cubic angstrom for each atom), g_per_cm3, gpa, vu (valence units).\n"
        + "\n".join(_hanging(f"  {name}: ", meaning, indent=6) for name, meaning in meanings().items()),
    ]
    return "\n\n".join(parts) + "\n"


def _citations(lines: Sequence[dict], settings: ExportSettings) -> list[str]:
    """What was used for these candidates."""
    potentials = sorted({line["potential"].split()[0] for line in lines if line["potential"]})
    used = {*potentials, *settings.inputs, *(line["template_source"] for line in lines)}
    used |= {line["origin"] for line in lines}
    known = [text for name, text in _CITE.items() if name in used]
    others = [f"the authors of the potential {name}" for name in potentials if name not in _CITE]
    return ["Kimberlite: CITATION.cff in its repository", *known, *others]


def _hanging(head: str, text: str, indent: int | None = None) -> str:
    """A paragraph with a head, later lines indented."""
    later = " " * (len(head) if indent is None else indent)
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=head,
        subsequent_indent=later,
        break_long_words=False,
        break_on_hyphens=False,
    )
