"""`make conformance`: whether a Workbench keeps the contract, `infra/workbench/openapi.yaml`.

A run of it submits a few real jobs to one Workbench and judges each rule by what was answered.
`musts` holds the rules that runs depend on, `shoulds` the abilities that they profit from. Like
the reference Workbench it knows nothing of `functions/`: it sees what any caller sees.
"""
