"""Files wherever they are, listed page by page: object stores, SFTP, local folders."""

from connectors.files.config import FilesConfig
from connectors.files.globs import Globs
from connectors.files.listing import FileInfo, Lister, in_order
from connectors.files.place import Place, locate

__all__ = ["FileInfo", "FilesConfig", "Globs", "Lister", "Place", "in_order", "locate"]
