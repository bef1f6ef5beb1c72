"""What is declared: the MessageQueue resource and its status; the only source of the CRD.

This package imports nothing else of Celeriac.
"""
