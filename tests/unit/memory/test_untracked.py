import gc
import weakref

from wsaas.memory.untracked import untracked_list


class Item:
    """What a weak reference can refer to."""


def test_a_list_has_the_items_in_their_order_and_is_not_visited_by_the_garbage_collector():
    items = {"a": Item(), "b": Item()}
    found = untracked_list(items.values())
    assert found == [*items.values()]
    assert gc.is_tracked([*items.values()])
    assert not gc.is_tracked(found)


def test_its_items_survive_a_collection_and_go_with_it():
    found = untracked_list([Item()])
    gone = weakref.ref(found[0])
    gc.collect()
    assert gone() is found[0]
    found.clear()
    assert gone() is None
    found.append(Item())
    gone = weakref.ref(found[0])
    del found
    assert gone() is None
