"""Airflow's metadata database with so many triggers, as watchers of assets: what it keeps for events from outside.

python airflow_prepare.py count every
"""

import sys

from airflow.models.asset import AssetModel, AssetWatcherModel
from airflow.models.trigger import Trigger
from airflow.utils.db import initdb
from airflow.utils.session import create_session
from airflow_triggers import IdleTrigger

count, every = int(sys.argv[1]), float(sys.argv[2])
initdb()
with create_session() as session:
    for number in range(count):
        asset = AssetModel(name=f"a{number}", uri=f"x://a{number}", group="asset")
        trigger = Trigger.from_object(IdleTrigger(number, count, every))
        session.add_all((asset, trigger))
        session.flush()
        session.add(AssetWatcherModel(name=f"w{number}", asset_id=asset.id, trigger_id=trigger.id))
