"""Publication: revisions of studies, their manifests, the durable outbox, and the roads to a registry.

The order of calls:

1. A study's change mark moves. The archive tells ``Reviser`` (``revise.py``), which also looks for marks that
   other processes moved.
2. ``Schedule`` (``schedule.py``) says when the study is due: soon after its first object, then after a time
   of quiet.
3. ``Reviser`` reads the record from the holdings, reserves a version, builds the manifest in a worker, and
   commits the revision with its intents in one transaction (``PublishStore`` in ``store.py``).
4. ``Outbox`` (``outbox.py``) takes what is due from ``OutboxStore``. ``next_act`` (``decide.py``) says which
   act leads from what is acknowledged to what is wanted; it is noted as in flight before it leaves.
5. A ``Road`` (``road.py``) delivers it, by gRPC (``grpc_road.py``) or by SOAP (``soap_road.py`` and
   ``xds_wire.py``), and answers with a ``Result`` (``model.py``).
6. ``OutboxStore.settle`` writes what became of it: acknowledged, to be tried again, or parked for an
   operator.
7. After a loss ``Publisher`` (``publisher.py``) holds the outbox and has a ``Comparer`` ask the registry what
   it has. Studies that differ go through step 3 again.
"""
