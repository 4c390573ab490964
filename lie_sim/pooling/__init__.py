"""Pooling: hard, soft and local choice of the particles or nodes that matter, by their own features."""

from lie_sim.pooling.graph_batch import GraphBatch
from lie_sim.pooling.graph_layers import GRAPH_POOLS, GraphConvolution, GraphPool, read_out_graphs
from lie_sim.pooling.sag_pool import POOL_MODES, PairScore, Pooled, SAGPool
from lie_sim.pooling.soft_top_k import local_gate, soft_top_k
from lie_sim.pooling.top_k import hard_top_k, kept_count

__all__ = [
    "GRAPH_POOLS",
    "POOL_MODES",
    "GraphBatch",
    "GraphConvolution",
    "GraphPool",
    "PairScore",
    "Pooled",
    "SAGPool",
    "hard_top_k",
    "kept_count",
    "local_gate",
    "read_out_graphs",
    "soft_top_k",
]
