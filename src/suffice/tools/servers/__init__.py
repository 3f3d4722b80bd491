"""Tools that ship: a calculator, a bounded Python, and a search over one's own documents."""
