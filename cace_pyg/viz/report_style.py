"""The style sheet of a report: one column, both colour schemes, from 320 pixels of width up."""

STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1f; --soft: #5b5b66; --page: #ffffff;
  --card: #f4f5f7; --line: #d8dae0; --accent: #005a8f; --warn: #a34700; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8ec; --soft: #a9abb5; --page: #17181c;
  --card: #22242a; --line: #3a3d46; --accent: #79c3f2; --warn: #ffa45c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 60rem; background: var(--page);
  color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .75rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .75rem; padding-top: .75rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.02rem; margin: 0 0 .4rem; overflow-wrap: anywhere; }
p { margin: .5rem 0; max-width: 44rem; overflow-wrap: anywhere; }
a { color: var(--accent); }
nav ol { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: 1rem 0; padding: .6rem .9rem;
  list-style: none; background: var(--card); border-radius: .4rem; }
nav a { display: inline-block; padding: .25rem 0; }
.verdict { padding: .6rem .9rem; border-left: .25rem solid var(--accent); background: var(--card); }
.verdict.no-gain { border-left-color: var(--warn); }
.policy, figcaption { color: var(--soft); font-size: .92rem; }
.scroll { overflow-x: auto; }
.scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .8rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th:first-child { padding-left: .2rem; text-align: left; }
thead th { color: var(--soft); font-weight: 600; font-size: .92rem; }
tbody th { font-weight: 500; }
td b { font-weight: 750; }
.difference th, .difference td { border-bottom: 0; color: var(--soft); }
figure { margin: 1.25rem 0 2.25rem; }
figure .scroll { background: #ffffff; border: 1px solid var(--line); border-radius: .4rem; padding: .5rem; }
figure img { display: block; width: 100%; height: auto; }
figcaption { margin-top: .5rem; max-width: 44rem; overflow-wrap: anywhere; }
.swipe { display: none; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.25rem; margin: 0;
  font-size: .95rem; }
dt { color: var(--soft); }
dd { margin: 0; font: .88rem/1.6 ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
summary { cursor: pointer; padding: .4rem 0; }
pre { margin: .5rem 0 0; padding: .9rem; overflow-x: auto; background: var(--card); border-radius: .4rem;
  font: .85rem/1.5 ui-monospace, "DejaVu Sans Mono", monospace; }
@media (max-width: 40rem) {
  body { padding-top: 1rem; }
  h1 { font-size: 1.35rem; }
  th, td { padding: .35rem .3rem; font-size: .85rem; }
  th:first-child { white-space: normal; }
  thead th { font-size: .75rem; }
  figure img { width: 44rem; max-width: none; }
  .swipe { display: block; color: var(--soft); font-size: .8rem; margin: .25rem 0 0; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .6rem; }
}
@media print { body { max-width: none; } figure { break-inside: avoid; } nav { display: none; } }
"""
