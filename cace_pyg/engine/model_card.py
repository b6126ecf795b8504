"""The model card of a bundle (Mitchell et al., 2019) in Markdown."""

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
pictures by their embeddings; the second stage re-ranks the nearest pictures by comparing pairs.

{facts}

## Use

{use}

Whenever the folder is read, its files are compared with the check sums in `SHA256SUMS`. This detects damage; it does
not show who made the files. The folder contains no pickle and no code.

## Results

{results}

## Data

{data}

This card was written by a program. It does not know where the pictures were taken, what the people in them agreed to,
or who is under-represented. Please add this before you share the model: this file has no check sum.

## Licence

{licence}

## Intended use

To find a pedestrian again in pictures that you are allowed to use for this, and for research on how that works. A
person should check the results before they have consequences for anybody. The model makes mistakes, and makes more of
them if cameras, places and people differ from those in its training: calibrate it on your own pictures before you rely
on its probabilities.

Re-identification is surveillance technology. This model is not for watching people without a legal basis, and not for
automatic decisions about people. It compares how people look; it does not know who they are.
"""

_WITHDRAWN = ("dukemtmc", "occluded_duke")
_IN_WORDS = {
    "market_layout": "pictures in Market-1501's layout",
    "manifest": "pictures listed in a table",
    "image_folder": "pictures in folders",
}


def model_card(
    title: str, state: Mapping[str, Any], fingerprint: str, results: Mapping[str, Any] | None, licence: str | None
) -> str:
    """The text of ``README.md``.

    Args:
        title: of the model.
        state: the contents of the checkpoint, with a configuration without paths of this machine.
        fingerprint: of the model.
        results: what ``evaluate --output`` wrote; None: not measured.
        licence: in words; None: not stated.
    """
    config = yaml.safe_load(state["config"])
    return _CARD.format(
        title=title,
        licence_name=json.dumps(licence or "not stated"),
        facts=_facts(state, config, fingerprint),
        use=_use(state, config).format(title=title),
        results="Not measured." if results is None else _results(results, state),
        data=_data(state, config),
        licence=licence or "No licence was stated, so none is granted: ask whoever gave you this folder.",
    )


def _use(state: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    if "own_extractor" in state:
        return _OF_PAIR_STAGE
    return _OF_STANDARDISED if config["evaluation"].get("standardise_cameras") else _OF_MODEL


def _facts(state: Mapping[str, Any], config: Mapping[str, Any], fingerprint: str) -> str:
    network = config["backbone"]["name"]
    if "own_extractor" in state:
        network = f"{state['own_extractor']}, which is not in this folder; the folder has only the pair stage"
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
_OF_STANDARDISED = """```
cace-pyg evaluate --checkpoint {title} --data.root PATH
cace-pyg search index FOLDER --gallery people.lance --checkpoint {title} --pattern '_c(?P<camera>\\d)'
```

It standardises pictures by camera (`evaluation.standardise_cameras`), so it needs those of a whole gallery."""
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
        cells = (f"{100 * row[metric]:.1f}" if isinstance(row.get(metric), int | float) else "–" for metric in names)
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
    told = [f"{_IN_WORDS.get(name, name)}, `{root}`" for name, _, root in (source.partition(":") for source in sets)]
    lines = [
        f"Trained on: {'; '.join(told)}. {state['identities']} identities; {data['hold_out']:.0%} of the data set's "
        "were held out to choose the best epoch and the fusion weight."
    ]
    if environment.get("data-set fingerprint"):
        lines.append(f"Data-set fingerprint: {environment['data-set fingerprint']}.")
    lines.append(
        "What you may do with the weights also depends on the terms of these pictures: ask whoever publishes them."
    )
    if any(source.startswith(_WITHDRAWN) for source in sets):
        lines.append("DukeMTMC was withdrawn by its authors, over questions of consent.")
    return "\n".join(lines)
