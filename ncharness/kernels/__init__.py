"""Class sums, class scores and CDNV of a feature matrix: native, in torch, and the dispatch."""
