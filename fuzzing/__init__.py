"""Broken and hostile submissions made at random; what reads them must refuse in one line or accept."""
