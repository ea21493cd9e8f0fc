"""The invariant checker: reads what a stack has come to and fails on any broken property.

    python -m infra.verify            # `make verify`: the running stack
    report = verify(gather(database, workbench=…, queues=…))

Readers gather `Facts` (`reading`, `workbench`, `queues`); each property that can be read off the
state is one small function over them (`properties`); `report` says what came of it. The rules are
restated (`rules`) and nothing of the service is imported: a checker that took its rules from the
code that it checks would share that code's mistakes.
"""
