"""The reference Workbench: a small real service that does what pipeline runs ask for.

It fulfils the contract in `openapi.yaml`, which any Workbench must, and knows nothing of the
service that calls it. A call is read in `app`, a job is kept in `jobs` and carried through its
life by `runner`, its objects are fetched and written by `storage`, worked on by `processing`
(`tables`, `profiles`) and told about by `report` (`pictures`).
"""
