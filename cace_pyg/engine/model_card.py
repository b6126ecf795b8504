"""What a bundle says of itself, for people: a model card (Mitchell et al., 2019) in Markdown."""

import json
from collections.abc import Mapping
from typing import Any

import yaml

_CARD = """---
library_name: cace_pyg
pipeline_tag: image-feature-extraction
license: other
license_name: {licence_name}
tags: [person-re-identification, image-retrieval, graph-neural-network]
---

# {title}

A model for person re-identification, made with cace_pyg, which is CACE-Net on PyTorch Geometric. The first stage ranks
pictures by the embedding of each; the second ranks the nearest again by comparing pairs.

{facts}

## Use

{use}

Whenever the folder is read, its files are compared with the check sums in `SHA256SUMS`. That shows damage; it does not
show who made them. There is no pickle in the folder, and no code.

## Results

{results}

## Data

{data}

This card was written by a program, which does not know where the pictures were taken, what the people on them agreed
to, or who is missing among them. Whoever shares this model should add it here: this file has no check sum.

## Licence

{licence}

## Intended use

To find a pedestrian again among pictures that you may use for it, and for research on how that works. A person should
look at what is found before anything follows from it for somebody. The model makes mistakes, and more of them where
cameras, places and people differ from those it has seen: calibrate it on your own before you rely on its probabilities.

Re-identification is surveillance technology. This model is not for watching people without a legal basis, and not for
decisions about people that no person takes. It compares how people look; it does not know who they are.
"""

_WITHDRAWN = ("dukemtmc", "occluded_duke")
_IN_WORDS = {
    "market_layout": "pictures in Market-1501's layout",
    "manifest": "pictures named by a table",
    "image_folder": "a tree of pictures",
}


def model_card(
    title: str, state: Mapping[str, Any], fingerprint: str, results: Mapping[str, Any] | None, licence: str | None
) -> str:
    """The text of ``README.md``.

    Args:
        title: of the model.
        state: what the checkpoint holds, its configuration without paths of the machine.
        fingerprint: of the model.
        results: what ``evaluate --output`` wrote; none: not measured.
        licence: in words; none: not stated.
    """
    config = yaml.safe_load(state["config"])
    return _CARD.format(
        title=title,
        licence_name=json.dumps(licence or "not stated"),
        facts=_facts(state, config, fingerprint),
        use=(_OF_PAIR_STAGE if "own_extractor" in state else _OF_MODEL).format(title=title),
        results="Not measured." if results is None else _results(results, state),
        data=_data(state, config),
        licence=licence or "Nobody stated one, so nothing is allowed by it: ask whoever gave you this folder.",
    )


def _facts(state: Mapping[str, Any], config: Mapping[str, Any], fingerprint: str) -> str:
    network = config["backbone"]["name"]
    if "own_extractor" in state:
        network = f"{state['own_extractor']}, which is not in this folder; the pair stage alone is"
    elif "network" in state:
        network += ", a frozen network, in the folder `network`"
    graph, conditional = config["graph"], config["conditional"]
    rows = {
        "network": network,
        "pictures": f"{config['data']['height']}×{config['data']['width']} pixels (height × width), RGB",
        "embedding": f"{config['embedding']['kind']}, {config['embedding']['channels']} channels in the second stage",
        "graph": f"{graph['class_path'].rsplit('.', 1)[-1]}, edges: {conditional.get('edges')}",
        "fusion weight": "none was chosen" if state["fusion_weight"] is None else f"{state['fusion_weight']:g}",
        "probabilities": _calibration(state.get("calibration")),
        "made with": _versions(state.get("environment", {})),
        "fingerprint": f"`{fingerprint}`",
    }
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items())])


def _calibration(values: Mapping[str, Any] | None) -> str:
    if values is None:
        return "none: the model is not calibrated"
    return (
        f"{values['form']}, learned from {values['pairs']:,} pairs of {values['people']} people held out "
        f"of training; calibration error {values['error']:.3f}"
    )


def _versions(environment: Mapping[str, str]) -> str:
    names = ("cace-pyg", "torch", "torch-geometric")
    return ", ".join(f"{name} {environment[name]}" for name in names if name in environment) or "not recorded"


_OF_MODEL = """```python
import cace_pyg

found = cace_pyg.from_pretrained("{title}")  # this folder, or its name on the hub
vectors = cace_pyg.embed_pictures(["A.jpg"], found.path)
```

```
cace-pyg evaluate --checkpoint {title} --data.root PATH
```"""
_OF_PAIR_STAGE = """```python
import cace_pyg

found = cace_pyg.from_pretrained("{title}")  # this folder, or its name on the hub
distance = cace_pyg.rerank_features(query, gallery, found.pair_stage)  # features of the same network
```"""


def _results(results: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    names = ("mAP", "rank1", "rank5", "rank10", "mINP")
    rows = {name: row for name, row in results.items() if isinstance(row, Mapping) and "mAP" in row}
    lines = [f"| percent | {' | '.join(names)} |", f"| --- |{' ---: |' * len(names)}"]
    for name, row in rows.items():
        cells = (f"{100 * row[one]:.1f}" if isinstance(row.get(one), int | float) else "–" for one in names)
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")
    here, trained = (of.get("environment", {}).get("data-set fingerprint") for of in (results, state))
    where = "Query and gallery of the data set below." if here and here == trained else f"Data-set fingerprint: {here}."
    policy = results.get("policy")
    return "\n".join([*lines, "", f"{where} {f'Protocol: {policy}.' if policy else ''}".strip()])


def _data(state: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    data, environment = config["data"], state.get("environment", {})
    sets = [f"{data['name']}:{data['root']}", *data.get("extra_train", [])]
    if config["pair_phase"].get("data"):
        sets.append(f"{config['pair_phase']['data']} (second stage)")
    told = [f"{_IN_WORDS.get(name, name)}, `{root}`" for name, _, root in (one.partition(":") for one in sets)]
    lines = [
        f"Trained on: {'; '.join(told)}. {state['identities']} identities; {data['hold_out']:.0%} of the data set's "
        "were held out to choose the best epoch and the fusion weight."
    ]
    if environment.get("data-set fingerprint"):
        lines.append(f"Data-set fingerprint: {environment['data-set fingerprint']}.")
    lines.append(
        "What may be done with the weights depends on the terms of these pictures too: ask whoever publishes them."
    )
    if any(one.startswith(_WITHDRAWN) for one in sets):
        lines.append("DukeMTMC was withdrawn by its authors, over questions of consent.")
    return "\n".join(lines)
