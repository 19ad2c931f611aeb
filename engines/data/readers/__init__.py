"""One file for each way of storing a data set. A new file here is found by itself."""
