"""What the product calls itself, and its version."""

from openmse import __version__

PRODUCT_NAME = "OpenMSE Mobility Services Engine"
VERSION = __version__
