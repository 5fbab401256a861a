"""The plan in words, printed above its results."""

_FIXED = """\
The plan of each experiment was written before its first run and not changed after.
"""
_SETTINGS = """\
- Arms: without DeNS (`eqv2_md17.yml`, `eqv2_oc20.yml`), DeNS, and DeNS without force encoding
  (`eqv2_dens_*.yml` with `dens=full` and `dens=no_force_encoding`). Model, frames, order of frames,
  steps, learning rate and its schedule are the same in all arms; DeNS adds the force embedding, of
  which only the bias acts at test time, and the noise head, which does not.
- A seed draws its own training and validation frames from the pool, initial weights, order of
  frames, and corruption. All arms of a seed have the same frames.
- rMD17: conservative forces, and DeNS as in Table 9 of the paper (p 0.25, lambda 5 decaying
  linearly to 0, sigma 0.05 Å, r 0.25; lambda_E 1, lambda_F 80). Model: `scale=md17` (2 blocks,
  L_max 2, 32 channels) with R = 8, learning rate 0.002, cosine schedule, AdamW, EMA 0.99.
- OC20: direct forces, the recipe of `scale=sample`. Tests are frames of the training trajectories
  that were left out (`val_id`) and whole trajectories of other systems (`val_ood`).
- Errors are MAEs of the EMA weights after the last step: no early stopping, no choice among
  checkpoints. The test splits are predicted once, at the end.
- Numbers are means ± sample standard deviations over the seeds, forces in meV/Å, energies in meV;
  "vs. without DeNS" is the mean of the relative differences of force MAE seed by seed.
"""

PLAN_TEXT = {
    "default": f"""# The gain from DeNS, measured

    python benchmarks/dens_gain.py

## Plan

{_FIXED}
{_SETTINGS}
- Pilot runs on a seed that is not used here (seed 100) came first. The learning rate is the
  recipe's. Steps: without DeNS, ethanol with 100 frames has then fitted its training frames (its
  training loss falls to a fiftieth) and its validation error hardly moves over the last quarter.
  For OC20, p = r = 0.25 and losses per free atom, instead of p = r = 0.5 with them: the better of
  two pilots with DeNS by validation error (139 against 158 meV/Å). The pilots also printed the
  test errors of their seed (there `val_id` 93 against 102, `val_ood` 268 against 236), and for
  ethanol and aspirin runs with and without DeNS were looked at.
""",
    "why": f"""# Where DeNS lost, why?

    python benchmarks/dens_gain.py --why

## Plan

On ethanol with 950 frames and 3,800 steps, 16 passes over the frames, DeNS lost in every seed of
[the comparison](dens_gain.md) (20.8 against 18.2 meV/Å in the mean); on 100 frames and 160 passes
it was a draw. The papers train on 950 frames for over a thousand passes. One cause at a time, on
the frames of seed 0 (there 22.7 against 19.1):

- steps: twice as many, and five times as many;
- capacity: 64 channels instead of 32, in both arms;
- weight of denoising: lambda 1 instead of 5;
- share of denoising: p 0.1 instead of 0.25. Seed 0 came first (18.4); the other two seeds, and the
  five seeds of 100 frames, were added to the plan then, before they ran;
- passes: 100 frames for 24,000 steps, 960 passes, as many as the papers'. Added when all of the
  above had run; two seeds were planned, and cut to one for time before it ran.

Each experiment was written down before its first run, and not changed after but for these seeds.

{_SETTINGS}""",
    "quick": f"""# The gain from DeNS: does everything run?

Far too few steps for a result.

{_FIXED}
{_SETTINGS}""",
    "full": f"""# The gain from DeNS on eight molecules

    python benchmarks/dens_gain.py --full --data FOLDER

## Plan

{_FIXED}
{_SETTINGS}""",
}
