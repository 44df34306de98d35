"""``make bench ROW=…``: the rows of the speed budget, peers in the same run, medians and ratios into HISTORY.md.

``__main__`` chooses the rows; each module measures one kind of work for KVQL and for its peers, interleaved, because
the speed of a machine drifts between minutes; ``record`` keeps what came out. Ours always runs over TLS, durable, with
authorisation; redis with AOF everysec on plain TCP; sqlite3 as it comes, in one transaction where it loads.
"""

import os

# peers are started while gRPC runs threads; what it does around fork() has aborted such a child before it began
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
