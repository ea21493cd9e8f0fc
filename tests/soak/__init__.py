"""The soak: the deployed stack under load for half an hour while its parts are killed.

    make soak                                   # 30 minutes, 300 runs
    python -m soak --minutes 3 --runs 40 --seed 7

Customers (`customers`) order runs, each with a story of its own, and insist where the API is away.
Meanwhile a part is killed every minute and messages are doubled and dropped (`chaos`). Every minute
is measured (`figures`) and judged by the invariant checker, and so is the end, when all is well
again and every run has to have come to the end that its story tells.
"""
