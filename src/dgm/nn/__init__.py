"""Networks, in torch alone; every forward states its shapes."""
